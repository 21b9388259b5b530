//! The pods of jobs and functions. They are as closed as those of the server, see deploy/kubernetes/base: no rights in the
//! cluster, no root, nothing to write to but their own folders.

use super::options::{Cache, PodOptions};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Memory for the program around a policy, in MiB.
const AROUND: u64 = 192;
/// What of its limit a pod asks for at most: most policies take far less than they may.
const ASKED: u64 = 256;
/// The user of the image, see deploy/Dockerfile.
const USER: u32 = 10001;
/// Where the program keeps its files, and in there what pods may share: code by digest and environments, each under a lock.
const DATA: &str = "/data";
const CACHE: &str = "/data/cache";
/// Variables that tell the program where, and who, it is.
const OWN: [(&str, &str); 2] = [("EDICT_NODE", "spec.nodeName"), ("EDICT_POD_UID", "metadata.uid")];

/// What pods differ in.
pub(super) struct PodTemplate<'a> {
    pub(super) args: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    /// The secret whose keys are further variables.
    pub(super) secret: &'a str,
    pub(super) node_selector: &'a BTreeMap<String, String>,
    pub(super) memory_mb: u64,
    pub(super) grace_seconds: u64,
    pub(super) restart: &'static str,
    /// Further fields of the container: ports and probes.
    pub(super) container: Map<String, Value>,
}

impl PodTemplate<'_> {
    /// The pod's specification.
    pub(super) fn spec(self, options: &PodOptions) -> Value {
        let mut spec = json!({
            "restartPolicy": self.restart,
            // A policy could use it.
            "automountServiceAccountToken": false,
            // Else Kubernetes sets a variable like EDICT_SYSTEM_PORT for a service of that name, which is a setting's name.
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": self.grace_seconds,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            // Named also when it is empty, so that one that was there before goes.
            "nodeSelector": self.node_selector,
            "volumes": volumes(&options.cache),
        });
        if let Some(name) = &options.image_pull_secret {
            spec["imagePullSecrets"] = json!([{"name": name}]);
        }
        spec["containers"] = json!([self.container(options)]);
        spec
    }

    fn container(self, options: &PodOptions) -> Value {
        let mut container = self.container;
        let limit = self.memory_mb.saturating_add(AROUND);
        let mut requests = Map::from_iter([("memory".to_owned(), json!(format!("{}Mi", limit.min(ASKED))))]);
        if !options.cpu_request.is_empty() {
            requests.insert("cpu".to_owned(), json!(options.cpu_request));
        }
        let mut env: BTreeMap<_, _> =
            options.env.iter().chain(self.env).map(|(name, value)| (name, json!({"value": value}))).collect();
        let own = OWN
            .map(|(name, field)| (name.to_owned(), json!({"valueFrom": {"fieldRef": {"fieldPath": field}}})));
        env.extend(own.iter().map(|(name, value)| (name, value.clone())));
        let env = env.into_iter().map(|(name, mut variable)| {
            variable["name"] = json!(name);
            variable
        });
        let fields = json!({
            "name": "edict",
            "image": options.image,
            "imagePullPolicy": "IfNotPresent",
            "args": self.args,
            "env": env.collect::<Vec<_>>(),
            "envFrom": [{"secretRef": {"name": self.secret}}],
            "resources": {"requests": requests, "limits": {"memory": format!("{limit}Mi")}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts(&options.cache),
        });
        container.extend(fields.as_object().cloned().unwrap_or_default());
        if let Some(command) = &options.command {
            container.insert("command".to_owned(), json!(command));
        }
        Value::Object(container)
    }
}

fn volumes(cache: &Cache) -> Value {
    let (data, tmp) = (json!({"sizeLimit": "8Gi"}), json!({"sizeLimit": "2Gi"}));
    let mut volumes =
        vec![json!({"name": "data", "emptyDir": data}), json!({"name": "tmp", "emptyDir": tmp})];
    match cache {
        Cache::PerPod => {}
        Cache::Node(path) => {
            volumes.push(json!({"name": "cache", "hostPath": {"path": path, "type": "Directory"}}));
        }
        Cache::Claim(name) => {
            volumes.push(json!({"name": "cache", "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    json!(volumes)
}

fn mounts(cache: &Cache) -> Value {
    let mut mounts =
        vec![json!({"name": "data", "mountPath": DATA}), json!({"name": "tmp", "mountPath": "/tmp"})];
    if *cache != Cache::PerPod {
        mounts.push(json!({"name": "cache", "mountPath": CACHE}));
    }
    json!(mounts)
}
