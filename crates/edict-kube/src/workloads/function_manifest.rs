//! The objects of a function.

use super::functions::{Autoscale, COMPONENT, FunctionPods};
use super::pod_template::PodTemplate;
use super::secrets::data;
use super::stamp::{MANIFEST, stamped};
use super::{DEPLOYMENTS, EDITION, FUNCTION, SCALERS, SECRETS, SERVICES, Workloads};
use crate::ours::object_name;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Map, Value, json};

/// The label by which a Deployment and a Service find the pods of a function.
pub(super) const KEY: &str = "edict.dev/function";
/// Where rules of autoscaling stand that version 1 of the API has no fields for: every Kubernetes reads them there.
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The name of a function's objects.
pub(super) fn function_name(function: &str) -> String {
    format!("fn-{}", object_name(function))
}

/// The objects of a function, each with a digest of what is wanted.
pub(super) struct Manifests {
    pub(super) service: Value,
    pub(super) secret: Value,
    pub(super) deployment: Value,
    pub(super) scaler: Option<Value>,
}

impl Manifests {
    /// What is wanted, where this deployment is there.
    pub(super) fn new(of: &Workloads, function: &FunctionPods, there: Option<&Deployment>) -> Self {
        let name = function_name(&function.name);
        let annotations = || Map::from_iter([(FUNCTION.to_owned(), json!(function.name))]);
        let mut labels = of.mark.labels(COMPONENT);
        labels.insert(KEY.to_owned(), json!(object_name(&function.name)));
        let object = |kind, spec: (&str, Value)| {
            let mut object = of.object(kind, &name, annotations());
            object["metadata"]["labels"] = json!(labels);
            object[spec.0] = spec.1;
            object
        };
        let port =
            json!({"name": "http", "port": function.port, "targetPort": function.port, "protocol": "TCP"});
        let service = json!({"type": "ClusterIP", "selector": labels, "ports": [port]});
        let secret = stamped(object(SECRETS, ("data", data(&function.secret))));
        let mut template = annotations();
        template.insert(EDITION.to_owned(), json!(function.edition));
        // Pods read it when they start: others are made when it changes.
        template.insert("edict.dev/secret".to_owned(), secret["metadata"]["annotations"][MANIFEST].clone());
        let deployment = json!({
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": function.start_patience.as_secs().max(1),
            "template": {
                "metadata": {"labels": labels, "annotations": template},
                "spec": pods(function, &name).spec(&of.options),
            },
        });
        let mut deployment = stamped(object(DEPLOYMENTS, ("spec", deployment)));
        // Not part of what is compared: the autoscaler changes it.
        deployment["spec"]["replicas"] = json!(replicas(function, there));
        let scaler = function.autoscale.as_ref().map(|rule| {
            let mut scaler = object(SCALERS, ("spec", scaling(rule, &name)));
            scaler["metadata"]["annotations"][BEHAVIOR] = json!(behavior(rule).to_string());
            stamped(scaler)
        });
        Self { service: stamped(object(SERVICES, ("spec", service))), secret, deployment, scaler }
    }
}

/// As many as are wanted; with autoscaling, as many as there are, within its limits.
fn replicas(function: &FunctionPods, there: Option<&Deployment>) -> i64 {
    let Some(rule) = &function.autoscale else { return function.replicas.into() };
    let now = there.and_then(|there| there.spec.as_ref()?.replicas).map_or(rule.min.into(), i64::from);
    now.max(rule.min.into()).min(rule.max.into())
}

fn pods<'a>(function: &'a FunctionPods, secret: &'a str) -> PodTemplate<'a> {
    let probe = |path: &str, period: u64, failures: u64| {
        json!({"httpGet": {"path": path, "port": function.port}, "periodSeconds": period, "timeoutSeconds": 3,
            "failureThreshold": failures})
    };
    let container = json!({
        "ports": [{"name": "http", "containerPort": function.port, "protocol": "TCP"}],
        // Until it is ready for the first time.
        "startupProbe": probe("/readyz", 1, function.start_patience.as_secs().max(1)),
        "readinessProbe": probe("/readyz", 1, 3),
        "livenessProbe": probe("/healthz", 10, 6),
    });
    PodTemplate {
        args: &function.args,
        env: &function.env,
        secret,
        node_selector: &function.node_selector,
        memory_mb: function.memory_mb,
        grace_seconds: function.grace.as_secs().max(1),
        restart: "Always",
        container: container.as_object().cloned().unwrap_or_default(),
    }
}

fn scaling(rule: &Autoscale, name: &str) -> Value {
    json!({
        "scaleTargetRef": {"apiVersion": DEPLOYMENTS.0, "kind": DEPLOYMENTS.1, "name": name},
        "minReplicas": rule.min,
        "maxReplicas": rule.max,
        "targetCPUUtilizationPercentage": rule.target_percent,
    })
}

/// The windows, with the steps that Kubernetes takes by default: here it does not fill them in.
fn behavior(rule: &Autoscale) -> Value {
    let percent = json!({"Type": "Percent", "Value": 100, "PeriodSeconds": 15});
    let pods = json!({"Type": "Pods", "Value": 4, "PeriodSeconds": 15});
    json!({
        "ScaleUp": {
            "StabilizationWindowSeconds": rule.up_window, "SelectPolicy": "Max", "Policies": [pods, percent],
        },
        "ScaleDown": {
            "StabilizationWindowSeconds": rule.down_window, "SelectPolicy": "Max", "Policies": [percent],
        },
    })
}
