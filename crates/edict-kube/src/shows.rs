//! Whether an action was done, asked of the cluster after a crash.

use crate::target::{DeploymentTarget, PodTarget, Workload};
use crate::{ACTION_ANNOTATION, Action, Cluster, Fault, Target};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// What the cluster shows of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was done.
    Yes,
    /// It was not.
    No,
    /// The cluster does not tell.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Cluster {
    /// Whether an action was done whose end nobody saw, from the evidence of its target and its stamp.
    ///
    /// A pod that is gone, or on its way, counts as deleted by this action; who else may have done it cannot be told.
    ///
    /// # Errors
    /// The API server does not tell now.
    pub async fn shows(&self, action: &Action, evidence: &Value, stamp: &str) -> Result<Done, Fault> {
        action.check()?;
        let unreadable =
            |_| Fault::Refused { message: "the evidence of the action cannot be read".to_owned() };
        match serde_json::from_value(evidence.clone()).map_err(unreadable)? {
            Target::Pod(pod) => self.shows_pod(action, &pod).await,
            Target::Deployment(deployment) => self.shows_deployment(action, &deployment, stamp).await,
        }
    }

    async fn shows_pod(&self, action: &Action, before: &PodTarget) -> Result<Done, Fault> {
        let now: Option<Pod> = self.get::<Pod, _>(action.namespace(), action.name()).await?;
        let there = now.is_some_and(|pod| {
            pod.metadata.uid.as_ref() == Some(&before.uid) && pod.metadata.deletion_timestamp.is_none()
        });
        Ok(if there { Done::No } else { Done::Yes })
    }

    async fn shows_deployment(
        &self,
        action: &Action,
        before: &DeploymentTarget,
        stamp: &str,
    ) -> Result<Done, Fault> {
        let unknown = |what: &str| {
            Ok(Done::Unknown { why: format!("deployment `{}` {what} since", before.deployment_name) })
        };
        let now = match self.deployment(action.namespace(), action.name()).await {
            Ok(now) => now,
            Err(Fault::NotFound { .. }) => return unknown("was deleted"),
            Err(fault) => return Err(fault),
        };
        let stamped =
            |workload: &Workload| workload.annotation(ACTION_ANNOTATION).is_some_and(|at| at == stamp);
        if now.uid != before.uid {
            unknown("was replaced by another of the same name")
        } else if stamped(&now.object) {
            Ok(Done::Yes)
        } else if before.is_as_wanted_in(&now) {
            Ok(Done::No)
        } else if self.revisions(&now).await?.values().any(stamped) {
            // Another action has taken the deployment's stamp, but its controller has copied ours.
            Ok(Done::Yes)
        } else {
            unknown("was changed by somebody else")
        }
    }
}
