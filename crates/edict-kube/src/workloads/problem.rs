//! What is wrong with pods, in Kubernetes' words.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

/// What is wrong with a pod, or with making one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing it is.
    pub kind: ProblemKind,
    /// Kubernetes' words, or the last ones of the program.
    pub message: String,
}

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The image cannot be pulled.
    Image,
    /// The namespace's quota is used up.
    Quota,
    /// No node has room, or none fits.
    Unschedulable,
    /// It took more memory than it may.
    OutOfMemory,
    /// It ended by itself, and not well.
    Crashed,
    /// It took too long.
    Deadline,
    /// It was taken away: deleted, evicted, or its node is gone.
    Evicted,
    /// The cluster cannot run it as it is configured: a secret or a volume is missing, or the program.
    Config,
    /// Something else.
    Other,
}

/// What a container waits for that will not come by itself.
const IMAGE: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
];
const CONFIG: [&str; 3] = ["CreateContainerConfigError", "CreateContainerError", "RunContainerError"];
/// Why a container that never ran has ended.
const UNSTARTED: [&str; 2] = ["StartError", "ContainerCannotRun"];

impl Problem {
    pub(super) fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Why a controller could not make a pod.
    pub(super) fn uncreated(message: &str) -> Self {
        let quota = message.contains("exceeded quota") || message.contains("failed quota");
        Self::new(if quota { ProblemKind::Quota } else { ProblemKind::Other }, message)
    }

    /// What a pod waits for before its program runs.
    pub(super) fn waiting(pod: &Pod) -> Option<Self> {
        unscheduled(pod).or_else(|| containers(pod).find_map(held_up))
    }

    /// Why a pod of a function does not serve.
    pub(super) fn of_replica(pod: &Pod) -> Option<Self> {
        Self::waiting(pod).or_else(|| containers(pod).find_map(crashed))
    }

    /// How a pod that failed has ended: the exit code of its program, and why.
    pub(super) fn of_end(pod: &Pod) -> (Option<i32>, Self) {
        let ended = containers(pod).find_map(|container| container.state.as_ref()?.terminated.as_ref());
        let exit_code = ended.map(|ended| ended.exit_code);
        let problem = evicted(pod)
            .or_else(|| deleted(pod))
            .or_else(|| ended.map(terminated))
            .unwrap_or_else(|| Self::new(ProblemKind::Evicted, format!("pod `{}` did not run", name(pod))));
        (exit_code, problem)
    }
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten()
}

/// Whether a node has taken it away, or did not take it at all: only then the pod itself has a reason.
fn evicted(pod: &Pod) -> Option<Problem> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref().filter(|_| status.phase.as_deref() == Some("Failed"))?;
    let message = with(reason, status.message.as_deref());
    Some(Problem::new(ProblemKind::Evicted, format!("pod `{}`: {message}", name(pod))))
}

fn deleted(pod: &Pod) -> Option<Problem> {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let mut conditions = conditions.filter(|it| it.type_ == "DisruptionTarget" && it.status == "True");
    let disrupted = conditions.next().and_then(|condition| condition.message.clone());
    if disrupted.is_none() && pod.metadata.deletion_timestamp.is_none() {
        return None;
    }
    let why = disrupted.unwrap_or_else(|| "it was deleted".to_owned());
    Some(Problem::new(ProblemKind::Evicted, format!("pod `{}`: {why}", name(pod))))
}

fn unscheduled(pod: &Pod) -> Option<Problem> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
    let reason = condition.reason.as_deref().unwrap_or("Unschedulable");
    Some(Problem::new(ProblemKind::Unschedulable, with(reason, condition.message.as_deref())))
}

fn held_up(container: &ContainerStatus) -> Option<Problem> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = with(reason, waiting.message.as_deref());
    if IMAGE.contains(&reason) {
        return Some(Problem::new(ProblemKind::Image, format!("image `{}`: {message}", container.image)));
    }
    CONFIG.contains(&reason).then(|| Problem::new(ProblemKind::Config, message))
}

/// What a container that is not ready ended with the last time.
fn crashed(container: &ContainerStatus) -> Option<Problem> {
    if container.ready {
        return None;
    }
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.as_ref()).map(terminated)
    };
    ended(&container.state).or_else(|| ended(&container.last_state))
}

fn terminated(ended: &ContainerStateTerminated) -> Problem {
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let kind = match reason {
        "OOMKilled" => ProblemKind::OutOfMemory,
        reason if UNSTARTED.contains(&reason) => ProblemKind::Config,
        _ => ProblemKind::Crashed,
    };
    let ended_with = format!("ended with exit code {} ({reason})", ended.exit_code);
    // The program's last words come last: they may be a record that is read again.
    Problem::new(kind, with(&ended_with, ended.message.as_deref()))
}

fn with(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}
