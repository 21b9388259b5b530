//! Whether an executor runs, and what keeps it from that.

use super::json::at;
use super::{EXECUTOR, Infra, cache};
use crate::look::missing;
use crate::{Cluster, Fault};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::ListParams;
use serde_json::json;
use std::fmt;

/// How far an executor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfraState {
    /// It is as wanted and takes requests.
    Ready,
    /// Not yet, and what is in the way, if something is.
    Waiting(Option<InfraProblem>),
}

/// What is in an executor's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfraProblem {
    /// Kubernetes' word for it: `ImagePullBackOff`, `FailedCreate`, `Unschedulable`, `CrashLoopBackOff`, …
    pub reason: String,
    /// Kubernetes' words about it, or the last ones of a container that crashed.
    pub message: String,
}

impl fmt::Display for InfraProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => formatter.write_str(&self.reason),
            message => write!(formatter, "{}: {message}", self.reason),
        }
    }
}

impl InfraProblem {
    fn new(reason: Option<&str>, message: Option<&str>) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().trim().to_owned();
        Self { reason: text(reason), message: text(message) }
    }
}

impl Cluster {
    /// How far the executor is: whether its one pod is that of the last change and ready, the one before gone, and the cache
    /// prepared somewhere.
    ///
    /// # Errors
    /// It is not installed, or the API server does not show it.
    pub async fn infra_state(&self, infra: &Infra) -> Result<InfraState, Fault> {
        infra.check()?;
        let name = infra.name();
        let deployment: Option<Deployment> = self.get::<Deployment, _>(&infra.namespace, &name).await?;
        let ours = deployment.filter(|it| infra.mark.is_on(&json!({"metadata": it.metadata})));
        let deployment = ours.ok_or_else(|| missing("deployment", &infra.namespace, &name))?;
        if !is_complete(&deployment) {
            return Ok(InfraState::Waiting(self.executor_problem(infra, &deployment).await?));
        }
        match infra.cache {
            Some(_) => self.cache_state(infra).await,
            None => Ok(InfraState::Ready),
        }
    }

    async fn executor_problem(
        &self,
        infra: &Infra,
        deployment: &Deployment,
    ) -> Result<Option<InfraProblem>, Fault> {
        let params = ListParams::default().labels(&infra.mark.selector(Some(EXECUTOR)));
        let mut pods = self.list::<Pod, Pod>(&infra.namespace, &params).await?.0;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by(|a, b| b.metadata.creation_timestamp.cmp(&a.metadata.creation_timestamp));
        Ok(refused(deployment).or_else(|| pods.iter().find_map(problem)))
    }

    /// One node is enough: another may be down for long, and a pod that needs it waits there by itself.
    async fn cache_state(&self, infra: &Infra) -> Result<InfraState, Fault> {
        let place = cache::place(&infra.mark, &infra.namespace);
        let name = at(&place, "/metadata/name").as_str().unwrap_or_default();
        let set: Option<DaemonSet> = self.get::<DaemonSet, _>(&infra.namespace, name).await?;
        let set = set.ok_or_else(|| missing("daemon set", &infra.namespace, name))?;
        let pods = self.cache_pods(&infra.mark, &infra.namespace).await?;
        if pods.iter().any(cache::has_worked) {
            return Ok(InfraState::Ready);
        }
        let problem = match pods.iter().find_map(problem) {
            None if pods.is_empty() => self.failed_create(infra, set.metadata.uid.as_deref()).await,
            problem => problem,
        };
        Ok(InfraState::Waiting(problem))
    }

    /// Why a controller makes no pods, where only its events say so. Without the right to see them it stays unknown.
    async fn failed_create(&self, infra: &Infra, uid: Option<&str>) -> Option<InfraProblem> {
        let params = ListParams::default().fields(&format!("involvedObject.uid={}", uid?));
        let events = self.list::<Event, Event>(&infra.namespace, &params).await.ok()?.0;
        let failed = events.iter().find(|event| event.reason.as_deref() == Some("FailedCreate"))?;
        Some(InfraProblem::new(failed.reason.as_deref(), failed.message.as_deref()))
    }
}

fn is_complete(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    status.observed_generation >= deployment.metadata.generation
        && status.replicas == Some(1)
        && status.updated_replicas == Some(1)
        && status.available_replicas == Some(1)
}

/// Why the deployment has no pod: a quota, an admission rule.
fn refused(deployment: &Deployment) -> Option<InfraProblem> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let refused = conditions.iter().find(|it| it.type_ == "ReplicaFailure" && it.status == "True")?;
    Some(InfraProblem::new(refused.reason.as_deref(), refused.message.as_deref()))
}

/// What keeps a pod from being ready, the most telling first.
fn problem(pod: &Pod) -> Option<InfraProblem> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_ref().into_iter().flatten();
    let unscheduled = conditions
        .filter(|it| it.type_ == "PodScheduled" && it.status == "False")
        .map(|it| InfraProblem::new(it.reason.as_deref(), it.message.as_deref()))
        .next();
    let containers =
        || [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten();
    let evicted =
        status.reason.as_deref().map(|reason| InfraProblem::new(Some(reason), status.message.as_deref()));
    unscheduled
        .or_else(|| containers().find_map(crashed))
        .or_else(|| containers().find_map(waits))
        .or(evicted)
}

/// Whether a pod has not begun, and something is in the way of that.
pub(super) fn cannot_begin(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut begun = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    !begun.any(|container| container.container_id.as_ref().is_some_and(|id| !id.is_empty()))
        && problem(pod).is_some()
}

/// A container that has ended in failure, now or before it was started again.
fn crashed(container: &ContainerStatus) -> Option<InfraProblem> {
    if container.ready {
        return None;
    }
    let states = [&container.state, &container.last_state].into_iter().flatten();
    let ended = states.filter_map(|state| state.terminated.as_ref()).find(|ended| ended.exit_code != 0)?;
    let waits = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waits.and_then(|waits| waits.reason.as_deref()).or(ended.reason.as_deref());
    let killed = ended.reason.as_deref().filter(|reason| *reason == "OOMKilled");
    let how = match killed {
        Some(_) => "it took more memory than its limit".to_owned(),
        None => format!("exit code {}", ended.exit_code),
    };
    let message = match ended.message.as_deref().map(str::trim) {
        None | Some("") => how,
        Some(said) => format!("{how}: {said}"),
    };
    Some(InfraProblem::new(killed.or(reason), Some(&message)))
}

/// A container that cannot be started. What every container waits for at first is no problem.
fn waits(container: &ContainerStatus) -> Option<InfraProblem> {
    let waits = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waits.reason.as_deref()?;
    let usual = ["ContainerCreating", "PodInitializing"].contains(&reason);
    (!usual).then(|| InfraProblem::new(Some(reason), waits.message.as_deref()))
}
