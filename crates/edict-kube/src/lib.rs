//! What Edict does to a Kubernetes cluster: restarts and deletes pods; scales, rolls back and restarts deployments; says
//! whether the workload came back healthy, and, after a crash, whether an action was done. And what Edict runs in a cluster:
//! jobs and functions as pods ([`Workloads`]), and the executor itself that looks after them ([`Infra`]).
//!
//! It knows nothing of policies, limits or audit trails: whoever calls [`Cluster::perform`] has decided.

mod action;
mod apply;
mod call;
mod cluster;
mod fault;
mod handed_over;
mod infra;
mod look;
mod names;
mod nodes;
mod ours;
mod outcome;
mod perform;
mod rollback;
mod settle;
mod shows;
mod target;
mod words;
mod workloads;

pub use action::Action;
pub use cluster::{Cluster, ConnectError};
pub use fault::{Fault, Right};
pub use infra::{Address, Exposure, Infra, InfraProblem, InfraState, Ingress, Leftover};
pub use names::is_label;
pub use nodes::Node;
pub use ours::Mark;
pub use outcome::{DeploymentOutcome, Health, Outcome, PodHealth, PodOutcome};
pub use shows::Done;
pub use target::{DeploymentTarget, Owner, PodTarget, Target};
pub use workloads::{
    Autoscale, Cache, FunctionPods, FunctionSeen, JobEnd, JobPod, JobSeen, PodOptions, PodSeen, Problem,
    ProblemKind, RIGHTS, Workloads,
};

/// The annotation on a deployment that names the last action that Edict took on it.
pub const ACTION_ANNOTATION: &str = "edict.dev/action";
