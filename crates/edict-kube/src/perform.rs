//! Carries an action out.

use crate::look::missing;
use crate::outcome::{DeploymentOutcome, PodOutcome};
use crate::target::{DeploymentTarget, PodTarget, Workload};
use crate::{ACTION_ANNOTATION, Action, Cluster, Fault, Outcome, Target, rollback};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::{Value, json};

/// How often a change is tried again that only a deployment's status was in the way of.
const ATTEMPTS: usize = 10;

/// Labels that a pod has in common with its replacement.
const OF_REPLACEMENTS: [(&str, &str); 2] = [("ReplicaSet", "pod-template-hash"), ("Job", "controller-uid")];

impl Cluster {
    /// Does it, to the target that [`look`](Self::look) found and to no other: a pod of the same name that has taken its place
    /// and a deployment that somebody else has changed since are a conflict.
    ///
    /// `stamp` names this action; it is left on a deployment as [`ACTION_ANNOTATION`], in the same write as the change. A dry
    /// run asks the API server with all its checks and changes nothing.
    ///
    /// # Errors
    /// Nothing was done, unless [`Fault::uncertain`].
    pub async fn perform(
        &self,
        action: &Action,
        target: &Target,
        stamp: &str,
        dry_run: bool,
    ) -> Result<Outcome, Fault> {
        action.check()?;
        let done = self.carry_out(action, target, stamp, dry_run).await;
        if dry_run { done.map_err(Fault::without_effect) } else { done }
    }

    async fn carry_out(
        &self,
        action: &Action,
        target: &Target,
        stamp: &str,
        dry_run: bool,
    ) -> Result<Outcome, Fault> {
        match (action, target) {
            (Action::RestartPod { .. } | Action::DeletePod { .. }, Target::Pod(pod)) => {
                self.delete_pod(pod, dry_run).await
            }
            (Action::ScaleDeployment { replicas, .. }, Target::Deployment(target)) => {
                let merge = json!({"metadata": stamped(stamp), "spec": {"replicas": replicas}});
                self.change(target, dry_run, |seen| merged(&merge, seen)).await.map(Outcome::Deployment)
            }
            (Action::RestartDeployment { .. }, Target::Deployment(target)) => {
                // Finer than the second of `kubectl`, so that two restarts within one are two.
                let now = Timestamp::now().to_string();
                let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
                let template = json!({"metadata": {"annotations": annotations}});
                let merge = json!({"metadata": stamped(stamp), "spec": {"template": template}});
                let mut outcome = self.change(target, dry_run, |seen| merged(&merge, seen)).await?;
                outcome.restarted_at = Some(now);
                Ok(Outcome::Deployment(outcome))
            }
            (Action::RollbackDeployment { .. }, Target::Deployment(target)) => {
                let goal = target.goal.as_ref().ok_or_else(mismatch)?;
                let mut outcome = self.change(target, dry_run, |seen| restored(goal, seen, stamp)).await?;
                (outcome.from_revision, outcome.to_revision) = (target.revision, target.to_revision);
                Ok(Outcome::Deployment(outcome))
            }
            _ => Err(mismatch()),
        }
    }

    async fn delete_pod(&self, pod: &PodTarget, dry_run: bool) -> Result<Outcome, Fault> {
        let (namespace, name) = (&pod.namespace, &pod.pod_name);
        let preconditions = Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None });
        let params = DeleteParams { dry_run, preconditions, ..DeleteParams::default() };
        let answer = self.delete::<Pod>(namespace, name, &params).await.map_err(|fault| match fault {
            Fault::Conflict { .. } => {
                Fault::Conflict { why: format!("pod `{name}` was replaced by another in between") }
            }
            fault => fault,
        })?;
        let answer = answer.ok_or_else(|| missing("pod", namespace, name))?;
        let version = answer.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let before = pod.object.metadata.resource_version.as_deref();
        let grace = answer.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
        // Of the API server's clock: ours may be another. It says when the time to end is over.
        let end = answer.pointer("/metadata/deletionTimestamp").and_then(Value::as_str);
        let end = end.and_then(|end| end.parse::<Timestamp>().ok());
        let deleted_at = end.unwrap_or_else(Timestamp::now).as_second() - grace.unwrap_or_default();
        Ok(Outcome::Pod(PodOutcome {
            namespace: namespace.clone(),
            pod_name: name.clone(),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
            owner: pod.owner.clone(),
            grace_period_seconds: grace,
            dry_run,
            since: version.or(before).unwrap_or_default().to_owned(),
            deleted_at,
            selector: selector(pod),
        }))
    }

    /// Sends a patch that holds for one version of the deployment. Where only its status has changed since (it does all the
    /// time while a workload is in trouble), for the next version.
    async fn change(
        &self,
        target: &DeploymentTarget,
        dry_run: bool,
        patch: impl Fn(&Workload) -> Result<Patch<Value>, Fault>,
    ) -> Result<DeploymentOutcome, Fault> {
        let place = (target.namespace.as_str(), target.deployment_name.as_str());
        let conflict = |what: &str| Fault::Conflict { why: format!("deployment `{}` {what}", place.1) };
        let mut seen = target.object.clone();
        for _ in 0..ATTEMPTS {
            match self.patch::<Deployment, Workload>(place, dry_run, &patch(&seen)?).await {
                Ok(Some(changed)) => return Ok(DeploymentOutcome::new(target, &changed, dry_run)),
                Ok(None) => return Err(missing("deployment", place.0, place.1)),
                Err(Fault::Conflict { .. }) => {
                    let now = self.deployment(place.0, place.1).await?;
                    if !target.is_as_wanted_in(&now) {
                        return Err(conflict(
                            "was changed by somebody else in between: look at it, then ask again",
                        ));
                    }
                    seen = now.object;
                }
                Err(fault) => return Err(fault),
            }
        }
        Err(conflict("changes all the time: try again"))
    }
}

impl DeploymentTarget {
    /// Whether what is wanted of it is still the same, whatever its status.
    pub(crate) fn is_as_wanted_in(&self, now: &Self) -> bool {
        (&self.uid, self.generation, &self.last_action) == (&now.uid, now.generation, &now.last_action)
    }
}

impl DeploymentOutcome {
    pub(crate) fn new(target: &DeploymentTarget, changed: &Workload, dry_run: bool) -> Self {
        Self {
            namespace: target.namespace.clone(),
            deployment_name: target.deployment_name.clone(),
            uid: target.uid.clone(),
            generation: changed.metadata.generation.unwrap_or_default(),
            replicas_before: target.replicas,
            replicas_after: changed.spec.replicas.unwrap_or(1),
            from_revision: None,
            to_revision: None,
            restarted_at: None,
            images: changed.images(),
            dry_run,
        }
    }
}

fn stamped(stamp: &str) -> Value {
    json!({"annotations": {ACTION_ANNOTATION: stamp}})
}

/// A merge patch that is refused unless the deployment is still of this version.
fn merged(merge: &Value, seen: &Workload) -> Result<Patch<Value>, Fault> {
    let mut merge = merge.clone();
    if let Some(metadata) = merge.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), json!(seen.metadata.resource_version));
    }
    Ok(Patch::Merge(merge))
}

/// The patch of `kubectl rollout undo`, refused unless the deployment is still of this version.
fn restored(goal: &Workload, seen: &Workload, stamp: &str) -> Result<Patch<Value>, Fault> {
    let patch = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": seen.metadata.resource_version},
        {"op": "replace", "path": "/spec/template", "value": rollback::template(goal)},
        {"op": "add", "path": "/metadata/annotations", "value": rollback::annotations(seen, goal, stamp)},
    ]);
    let patch =
        serde_json::from_value(patch).map_err(|error| Fault::Refused { message: error.to_string() })?;
    Ok(Patch::Json(patch))
}

/// What to watch for the pod's replacement; None: all pods of the namespace.
fn selector(pod: &PodTarget) -> Option<String> {
    let owner = pod.owner.as_ref()?;
    let (_, label) = OF_REPLACEMENTS.iter().find(|(kind, _)| *kind == owner.kind)?;
    let value = pod.object.metadata.labels.as_ref()?.get(*label)?;
    Some(format!("{label}={value}"))
}

fn mismatch() -> Fault {
    Fault::Refused { message: "the target was looked at for another action".to_owned() }
}
