//! Waits until a workload is healthy again.

mod deployment;
mod follow;
mod pod;

use crate::outcome::{Health, PodHealth};
use crate::{Action, Cluster, Fault, Outcome};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use std::time::Duration;

/// How long a workload must be ready to count as healthy. A container without a readiness probe is ready as soon as it runs,
/// and one that crashes a moment later would be, each time that it is started again.
const STEADY: Duration = Duration::from_secs(3);

impl Cluster {
    /// Waits until the pod's replacement is ready (of a pod without a controller: until it is gone), or the rollout complete,
    /// and stays so for three seconds; after `patience` it says what is in the way.
    ///
    /// # Errors
    /// The API server does not show it: a right is missing, or it was down at the end.
    pub async fn settle(
        &self,
        action: &Action,
        outcome: &Outcome,
        patience: Duration,
    ) -> Result<Health, Fault> {
        action.check()?;
        match outcome {
            Outcome::Pod(outcome) => self.settle_pod(outcome, patience).await,
            Outcome::Deployment(outcome) => self.settle_deployment(outcome, patience).await,
        }
    }
}

/// Whether a pod takes traffic and stays.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How a pod is, in Kubernetes' words.
fn health(pod: &Pod) -> PodHealth {
    let ready = is_ready(pod);
    let (reason, message) = if ready { (None, None) } else { obstacle(pod) };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let restarts = containers(pod).map(|container| container.restart_count).sum();
    PodHealth { name, ready, reason, message, restarts }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status
        .flat_map(|status| [&status.init_container_statuses, &status.container_statuses])
        .flatten()
        .flatten()
}

/// What keeps a pod from being ready: a container that waits or has ended, or what the scheduler says.
fn obstacle(pod: &Pod) -> (Option<String>, Option<String>) {
    if pod.metadata.deletion_timestamp.is_some() {
        return (Some("Terminating".to_owned()), None);
    }
    let waiting =
        |state: &ContainerState| state.waiting.as_ref().map(|it| (it.reason.clone(), it.message.clone()));
    let ended = |state: &ContainerState| {
        let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        Some((ended.reason.clone(), Some(format!("ended with exit code {}", ended.exit_code))))
    };
    let states = || containers(pod).filter_map(|container| container.state.as_ref());
    // A pod whose containers were never started says so of each; the condition says why.
    let unscheduled = || {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
        Some((condition.reason.clone(), condition.message.clone()))
    };
    let not_ready = || (Some("NotReady".to_owned()), None);
    unscheduled()
        .or_else(|| states().find_map(ended))
        .or_else(|| states().find_map(waiting))
        .unwrap_or_else(not_ready)
}

/// What is said when the time was over before it was clear that it stays so.
fn too_new() -> String {
    format!("ready for less than {} s", STEADY.as_secs())
}

/// Reasons of pods in one text.
fn reasons(pods: &[PodHealth]) -> String {
    let shown = |pod: &PodHealth| {
        let reason = pod.reason.as_deref().unwrap_or("NotReady");
        match &pod.message {
            Some(message) => format!("pod `{}`: {reason} ({message})", pod.name),
            None => format!("pod `{}`: {reason}", pod.name),
        }
    };
    pods.iter().filter(|pod| !pod.ready).map(shown).collect::<Vec<_>>().join("; ")
}
