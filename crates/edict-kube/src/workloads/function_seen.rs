//! What is seen of a function.

use super::function_manifest::{KEY, function_name};
use super::problem::{Problem, ProblemKind};
use super::{EDITION, Workloads, annotation};
use crate::ours::object_name;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use std::net::IpAddr;
use std::sync::Arc;

/// A function as it is in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSeen {
    /// Whether it has a Deployment.
    pub exists: bool,
    /// How many replicas the Deployment wants.
    pub desired: u32,
    /// Its pods, in the order of their names.
    pub pods: Vec<PodSeen>,
    /// What is wrong with the Deployment.
    pub problem: Option<Problem>,
    /// Processor time that its pods take, in percent of what they ask for, if it is scaled by that.
    pub cpu_percent: Option<u32>,
}

/// A pod of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// What tells it from others of its name.
    pub uid: String,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The node that it is on.
    pub node: Option<String>,
    /// What it was made from.
    pub edition: String,
    /// Whether it answers that it is.
    pub ready: bool,
    /// Whether it was told to go.
    pub leaving: bool,
    /// How often its program was started again.
    pub restarts: u32,
    /// Why it does not serve.
    pub problem: Option<Problem>,
}

impl Workloads {
    /// A function as it is seen.
    #[must_use]
    pub fn function(&self, function: &str) -> FunctionSeen {
        let name = function_name(function);
        let deployment = self.deployments.get(&name);
        let deployment = deployment.filter(|it| it.metadata.deletion_timestamp.is_none());
        let spec = deployment.as_ref().and_then(|deployment| deployment.spec.as_ref());
        let scaler = self.scalers.get(&name);
        let percent = scaler.and_then(|it| it.status.as_ref()?.current_cpu_utilization_percentage);
        FunctionSeen {
            exists: deployment.is_some(),
            desired: spec.and_then(|spec| spec.replicas).map_or(0, count),
            pods: self.pods_of_function(function).iter().map(|pod| seen(pod)).collect(),
            problem: deployment.as_deref().and_then(problem),
            cpu_percent: percent.map(count),
        }
    }

    fn pods_of_function(&self, function: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.beginning(&format!("{}-", function_name(function)));
        let key = object_name(function);
        pods.retain(|pod| {
            let labels = pod.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(KEY)).is_some_and(|of| *of == key) && !is_over(pod)
        });
        pods
    }
}

/// One that was evicted stays for people to look at, long after another took its place.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn seen(pod: &Pod) -> PodSeen {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.clone().any(|it| it.type_ == "Ready" && it.status == "True");
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let containers = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    PodSeen {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ip: status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        edition: annotation(&pod.metadata, EDITION).unwrap_or_default().to_owned(),
        ready,
        leaving,
        restarts: containers.map(|container| count(container.restart_count)).sum(),
        problem: if ready || leaving { None } else { Problem::of_replica(pod) },
    }
}

/// What a Deployment's controller says.
fn problem(deployment: &Deployment) -> Option<Problem> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let said = |type_: &str, status: &str| {
        let condition = conditions.iter().find(|it| it.type_ == type_ && it.status == status)?;
        Some(condition.message.as_deref().unwrap_or_default())
    };
    let uncreated = said("ReplicaFailure", "True").map(Problem::uncreated);
    uncreated.or_else(|| said("Progressing", "False").map(|why| Problem::new(ProblemKind::Deadline, why)))
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
