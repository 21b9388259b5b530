//! The objects of an executor.

use super::json::with;
use super::rights::NODES;
use super::{EXECUTOR, Exposure, Infra, Ingress, PARTS, Part, cache, cluster_wide_name, main_name};
use crate::ours::{COMPONENT_LABEL, EXECUTOR_LABEL, SYSTEM_LABEL};
use crate::{Mark, RIGHTS};
use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The user that the image runs as.
pub(super) const USER: u32 = 10001;

/// An object, and what it is part of.
pub(super) type Piece = (&'static str, Value);

impl Infra {
    /// All of it but the namespace and the service account, in the order in which one needs the other.
    pub(super) fn manifests(&self) -> Vec<Piece> {
        let mut all =
            vec![(EXECUTOR, self.secret_object()), (EXECUTOR, self.role()), (EXECUTOR, self.role_binding())];
        if self.node_access {
            all.extend(cluster_role(&self.mark, &self.namespace).map(|object| (EXECUTOR, object)));
        }
        all.push((EXECUTOR, self.service()));
        if let Some(path) = &self.cache {
            let folder = cache::Folder {
                path: path.clone(),
                image: self.image.clone(),
                image_pull_secret: self.image_pull_secret.clone(),
            };
            all.push((cache::CACHE, folder.manifest(&self.mark, &self.namespace, cache::Stage::Prepare)));
        }
        all.push((EXECUTOR, self.deployment()));
        if let Some(ingress) = &self.ingress {
            all.push((EXECUTOR, self.ingress_object(ingress)));
        }
        all
    }

    pub(super) fn name(&self) -> String {
        main_name(&self.mark)
    }

    fn object(&self, version: &str, kind: &str, fields: Value) -> Value {
        let object = json!({"apiVersion": version, "kind": kind,
            "metadata": {"name": self.name(), "namespace": self.namespace}});
        with(object, fields)
    }

    fn secret_object(&self) -> Value {
        let data = self.secret.iter().map(|(name, value)| (name, ByteString(value.clone().into_bytes())));
        let data = data.collect::<BTreeMap<_, _>>();
        self.object("v1", "Secret", json!({"type": "Opaque", "data": data}))
    }

    fn role(&self) -> Value {
        self.object("rbac.authorization.k8s.io/v1", "Role", json!({"rules": rules(RIGHTS)}))
    }

    fn role_binding(&self) -> Value {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.name()});
        let fields = json!({"roleRef": role, "subjects": subjects(&self.mark, &self.namespace)});
        self.object("rbac.authorization.k8s.io/v1", "RoleBinding", fields)
    }

    fn service(&self) -> Value {
        let exposure = match self.exposure {
            Exposure::NodePort => "NodePort",
            Exposure::ClusterIp => "ClusterIP",
            Exposure::LoadBalancer => "LoadBalancer",
        };
        let spec = json!({
            "type": exposure,
            "selector": selected(&self.mark, EXECUTOR),
            "ports": [{"name": "http", "port": self.port, "targetPort": "http", "protocol": "TCP"}],
        });
        self.object("v1", "Service", json!({"spec": spec}))
    }

    fn ingress_object(&self, ingress: &Ingress) -> Value {
        let service = json!({"service": {"name": self.name(), "port": {"name": "http"}}});
        let mut spec = json!({"rules": [{
            "host": ingress.host,
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]},
        }]});
        if let Some(class) = &ingress.class {
            spec = with(spec, json!({"ingressClassName": class}));
        }
        if let Some(secret) = &ingress.tls_secret {
            spec = with(spec, json!({"tls": [{"hosts": [ingress.host], "secretName": secret}]}));
        }
        let fields = json!({"metadata": {"annotations": ingress.annotations}, "spec": spec});
        self.object("networking.k8s.io/v1", "Ingress", fields)
    }

    fn deployment(&self) -> Value {
        // A changed token has to reach the pod. What is hashed holds tokens of ours, so that nobody guesses it.
        let secret = serde_json::to_vec(&self.secret).unwrap_or_default();
        let secret: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
        let template = json!({
            "metadata": {
                "labels": self.mark.labels(EXECUTOR),
                "annotations": {"edict.dev/secret": secret},
            },
            "spec": {
                "serviceAccountName": self.name(),
                "automountServiceAccountToken": true,
                // Else Kubernetes sets a variable like EDICT_X_PORT for each service, which may be a setting's name.
                "enableServiceLinks": false,
                // As in deploy/kubernetes: time for requests, jobs, functions and runs to end.
                "terminationGracePeriodSeconds": 70,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [self.container()],
                "volumes": [
                    {"name": "data", "emptyDir": {"sizeLimit": "8Gi"}},
                    {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
                ],
            },
        });
        let spec = json!({
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selected(&self.mark, EXECUTOR)},
            // Two at a time would both look after the same jobs and functions.
            "strategy": {"type": "Recreate"},
            "template": pulled_with(template, self.image_pull_secret.as_deref()),
        });
        self.object("apps/v1", "Deployment", json!({"spec": spec}))
    }

    fn container(&self) -> Value {
        let mut env: Vec<Value> =
            self.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        env.extend(self.secret.keys().map(|name| {
            let from = json!({"secretKeyRef": {"name": self.name(), "key": name}});
            json!({"name": name, "valueFrom": from})
        }));
        let namespace = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
        env.push(json!({"name": "EDICT_POD_NAMESPACE", "valueFrom": namespace}));
        let mut container = json!({
            "name": "edict",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["executor"],
            "env": env,
            "ports": [{"name": "http", "containerPort": self.port, "protocol": "TCP"}],
            "startupProbe": probe("/healthz", 1, 5, 60),
            "readinessProbe": probe("/readyz", 2, 3, 2),
            "livenessProbe": probe("/healthz", 10, 5, 6),
            "resources": {
                "requests": {"cpu": self.cpu_request, "memory": self.memory_request},
                "limits": {"memory": self.memory_limit},
            },
            "securityContext": confined(),
            // What it said last is what there is to be shown when it crashes.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
        });
        if let (Some(command), Some(fields)) = (&self.command, container.as_object_mut()) {
            fields.remove("args");
            fields.insert("command".to_owned(), json!(command));
        }
        container
    }
}

pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// The service account is the first object that is made and the last that is removed.
pub(super) fn account(mark: &Mark, namespace: &str, parts: &BTreeSet<Part>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {
            "name": main_name(mark), "namespace": namespace, "annotations": {PARTS: Part::words(parts)},
        },
        // Only the executor's pod gets its token.
        "automountServiceAccountToken": false,
    })
}

/// The right to see nodes, and its binding.
pub(super) fn cluster_role(mark: &Mark, namespace: &str) -> [Value; 2] {
    let name = cluster_wide_name(mark, namespace);
    let object = |kind: &str, fields: Value| {
        let object =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        with(object, fields)
    };
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
    let binding = json!({"roleRef": role, "subjects": subjects(mark, namespace)});
    [object("ClusterRole", json!({"rules": rules(NODES)})), object("ClusterRoleBinding", binding)]
}

fn subjects(mark: &Mark, namespace: &str) -> Value {
    json!([{"kind": "ServiceAccount", "name": main_name(mark), "namespace": namespace}])
}

fn rules(rights: &[(&str, &str, &[&str])]) -> Value {
    let rule = |(group, resource, verbs): &(&str, &str, &[&str])| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    rights.iter().map(rule).collect()
}

/// The labels that find a component's pods.
pub(super) fn selected(mark: &Mark, component: &str) -> Map<String, Value> {
    let mut labels = mark.labels(component);
    labels.retain(|name, _| [SYSTEM_LABEL, EXECUTOR_LABEL, COMPONENT_LABEL].contains(&name.as_str()));
    labels
}

/// What every container of ours may not do.
pub(super) fn confined() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    })
}

/// A pod template with the secret that its image is pulled with.
pub(super) fn pulled_with(template: Value, secret: Option<&str>) -> Value {
    match secret {
        Some(secret) => with(template, json!({"spec": {"imagePullSecrets": [{"name": secret}]}})),
        None => template,
    }
}

fn probe(path: &str, period: u32, timeout: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures,
    })
}
