//! What an action is about, as it was before.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The target as [`Cluster::look`](crate::Cluster::look) found it. Serialized it is the evidence by which
/// [`Cluster::shows`](crate::Cluster::shows) tells whether the action was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// A pod.
    Pod(Box<PodTarget>),
    /// A deployment.
    Deployment(Box<DeploymentTarget>),
}

/// A pod, as it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTarget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod_name: String,
    /// What tells it from a later one of the same name.
    pub uid: String,
    /// The node that it was on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The controller that brings it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    #[serde(skip)]
    pub(crate) object: Pod,
}

/// The controller of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `apps/v1`.
    pub api_version: String,
    /// `ReplicaSet`, `StatefulSet`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What tells it from a later one of the same name.
    pub uid: String,
}

/// A deployment, as it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentTarget {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub deployment_name: String,
    /// What tells it from a later one of the same name.
    pub uid: String,
    /// Counts the changes of what is wanted.
    pub generation: i64,
    /// How many pods are wanted.
    pub replicas: i32,
    /// The revision of its pod template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The revision that a rollback goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<i64>,
    /// The stamp of the last action on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_action: Option<String>,
    #[serde(skip)]
    pub(crate) object: Workload,
    #[serde(skip)]
    pub(crate) goal: Option<Workload>,
}

/// A deployment or replica set. The pod template stays as it came: a typed one would lose the fields of later versions of
/// Kubernetes, and a rollback would take them from the pods.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Workload {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: WorkloadSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct WorkloadSpec {
    pub(crate) replicas: Option<i32>,
    #[serde(default)]
    pub(crate) paused: bool,
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
}

impl Workload {
    pub(crate) fn annotation(&self, name: &str) -> Option<&String> {
        self.metadata.annotations.as_ref()?.get(name)
    }

    /// The images of its containers.
    pub(crate) fn images(&self) -> Vec<String> {
        let containers = self.spec.template.pointer("/spec/containers").and_then(Value::as_array);
        let image = |container: &Value| Some(container.get("image")?.as_str()?.to_owned());
        containers.into_iter().flatten().filter_map(image).collect()
    }
}

impl Target {
    /// What to keep, so that the action can be found again after a crash.
    #[must_use]
    pub fn evidence(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
