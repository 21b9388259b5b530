//! What came of an action.

use crate::Owner;
use serde::Serialize;
use std::time::Duration;

/// What was done; of a dry run, what would have been.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A pod was deleted.
    Pod(PodOutcome),
    /// A deployment was changed.
    Deployment(DeploymentOutcome),
}

/// A pod was deleted.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodOutcome {
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
    /// Seconds that its processes have to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// From where a watch sees what came after.
    #[serde(skip)]
    pub(crate) since: String,
    /// When, in seconds since 1970.
    #[serde(skip)]
    pub(crate) deleted_at: i64,
    /// The label that its replacement has as well.
    #[serde(skip)]
    pub(crate) selector: Option<String>,
}

/// A deployment was changed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentOutcome {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub deployment_name: String,
    /// What tells it from a later one of the same name.
    pub uid: String,
    /// Counts the changes of what is wanted.
    pub generation: i64,
    /// How many pods were wanted before.
    pub replicas_before: i32,
    /// How many are wanted now.
    pub replicas_after: i32,
    /// Rollback: the revision that was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_revision: Option<i64>,
    /// Rollback: the revision whose pod template is wanted now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<i64>,
    /// Restart: the moment that its pods are marked with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// The containers' images, as they are wanted now.
    pub images: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Whether the workload came back.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Everything that is wanted is there and ready.
    pub healthy: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took, or how long was waited, in milliseconds.
    pub waited_ms: u64,
    /// The pods that came, or that are in the way.
    pub pods: Vec<PodHealth>,
}

/// How a pod is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodHealth {
    /// Its name.
    pub name: String,
    /// It takes traffic.
    pub ready: bool,
    /// Kubernetes' word for what keeps it: `CrashLoopBackOff`, `ImagePullBackOff`, `Unschedulable`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Kubernetes' words about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How often its containers were started again.
    pub restarts: i32,
}

impl Health {
    pub(crate) fn new(reason: Option<String>, waited: Duration, pods: Vec<PodHealth>) -> Self {
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        Self { healthy: reason.is_none(), reason, waited_ms, pods }
    }
}
