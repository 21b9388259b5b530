//! The rollout of a deployment.

use super::follow::Seen;
use super::{STEADY, health, reasons, too_new};
use crate::outcome::{DeploymentOutcome, Health};
use crate::{Cluster, Fault, rollback};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use std::time::Duration;
use tokio::time::Instant;

impl Cluster {
    pub(crate) async fn settle_deployment(
        &self,
        of: &DeploymentOutcome,
        patience: Duration,
    ) -> Result<Health, Fault> {
        let start = Instant::now();
        let params = ListParams::default().fields(&format!("metadata.name={}", of.deployment_name));
        let mut last: Option<Deployment> = None;
        let mut gone = false;
        let enough = self
            .follow(&of.namespace, &params, None, start + patience, |seen: Seen<Deployment>| {
                let now = match seen {
                    Seen::All(mut all) => all.pop(),
                    Seen::Now(it) => Some(it),
                    Seen::Gone(_) => None,
                };
                last = now.filter(|it| it.metadata.uid.as_deref() == Some(&of.uid));
                gone = last.is_none();
                match &last {
                    None => Some(Duration::ZERO),
                    Some(it) => in_the_way(it, of.generation).is_none().then_some(STEADY),
                }
            })
            .await?;
        let waited = start.elapsed();
        let Some(deployment) = last else {
            let what = if gone { "was deleted" } else { "could not be looked at in this time" };
            let why = format!("deployment `{}` {what}", of.deployment_name);
            return Ok(Health::new(Some(why), waited, Vec::new()));
        };
        if enough {
            return Ok(Health::new(None, waited, Vec::new()));
        }
        // Words about pods are a help, not the answer: without them it is still unhealthy.
        let selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
        let pods = match rollback::selected(&selector) {
            Ok(params) => self.list::<Pod, Pod>(&of.namespace, &params).await.unwrap_or_default().0,
            Err(_) => Vec::new(),
        };
        let pods: Vec<_> = pods.iter().map(health).filter(|pod| !pod.ready).collect();
        let why = in_the_way(&deployment, of.generation).unwrap_or_else(too_new);
        let reason = if pods.is_empty() { why } else { format!("{why}; {}", reasons(&pods)) };
        Ok(Health::new(Some(reason), waited, pods))
    }
}

/// What is missing to a complete rollout, by the rules of `kubectl rollout status`; except that a rollout which was given
/// up is none of this one's failures: the condition may still be that of the revision that was left.
fn in_the_way(deployment: &Deployment, generation: i64) -> Option<String> {
    let status = deployment.status.clone().unwrap_or_default();
    let spec = deployment.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let paused = spec.and_then(|spec| spec.paused).unwrap_or_default();
    let (there, updated) = (status.replicas.unwrap_or_default(), status.updated_replicas.unwrap_or_default());
    let available = status.available_replicas.unwrap_or_default();
    if status.observed_generation.unwrap_or_default() < generation {
        return Some("the deployment's controller has not seen the change".to_owned());
    }
    let failed = |kind: &str, value: &str| {
        let mut conditions = status.conditions.iter().flatten();
        let condition = conditions.find(|it| it.type_ == kind && it.status == value)?;
        condition.message.clone()
    };
    if updated < wanted && !paused {
        let refused = failed("ReplicaFailure", "True").map(|why| format!(": {why}")).unwrap_or_default();
        return Some(format!("{updated} of {wanted} pods are of the new revision{refused}"));
    }
    if there > wanted || (there > updated && !paused) {
        return Some(format!(
            "{} pods that are not wanted any more are still there",
            there - updated.min(wanted)
        ));
    }
    (available < wanted).then(|| format!("{available} of {wanted} pods are available"))
}
