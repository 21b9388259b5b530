//! Which revision a rollback goes to, and what it leaves of the deployment: as `kubectl rollout undo` does it.

use crate::target::{DeploymentTarget, Workload};
use crate::{ACTION_ANNOTATION, Cluster, Fault};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::Selector;
use serde_json::Value;
use std::collections::BTreeMap;

/// The annotation that holds a revision.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";

/// The label by which the pods of a deployment's replica sets are told apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Annotations that belong to the deployment or to one replica set; all others belong to a revision.
const NOT_OF_A_REVISION: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

impl Cluster {
    /// The deployment's replica sets by their revisions.
    pub(crate) async fn revisions(
        &self,
        deployment: &DeploymentTarget,
    ) -> Result<BTreeMap<i64, Workload>, Fault> {
        let params = selected(&deployment.object.spec.selector)?;
        let (sets, _) = self.list::<ReplicaSet, Workload>(&deployment.namespace, &params).await?;
        let owned = |set: &Workload| {
            let mut owners = set.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.controller == Some(true) && owner.uid == deployment.uid)
        };
        let revision = |set: &Workload| set.annotation(REVISION)?.parse::<i64>().ok();
        Ok(sets.into_iter().filter(owned).filter_map(|set| Some((revision(&set)?, set))).collect())
    }
}

/// Asks for what a selector chooses.
pub(crate) fn selected(selector: &LabelSelector) -> Result<ListParams, Fault> {
    let unreadable = |_| Fault::Refused { message: "the deployment's selector cannot be read".to_owned() };
    let selector = Selector::try_from(selector.clone()).map_err(unreadable)?;
    Ok(ListParams::default().labels_from(&selector))
}

/// The revision to go back to.
pub(crate) fn choose(
    deployment: &DeploymentTarget,
    mut kept: BTreeMap<i64, Workload>,
    wanted: Option<i64>,
) -> Result<(i64, Workload), Fault> {
    let found = match wanted {
        // The newest replica set is the current one, whatever the deployment's own annotation says by now.
        None | Some(0) => kept.keys().rev().nth(1).copied(),
        Some(revision) => Some(revision),
    };
    if let Some(entry) = found.and_then(|revision| kept.remove_entry(&revision)) {
        return Ok(entry);
    }
    let name = &deployment.deployment_name;
    let list = || kept.keys().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let why = match wanted {
        Some(revision) if revision != 0 => {
            format!("deployment `{name}` has no revision {revision}; there are: {}", list())
        }
        _ => format!("deployment `{name}` has no earlier revision to go back to"),
    };
    Err(Fault::NoRevision { why })
}

/// Refuses to go where the deployment is already.
pub(crate) fn refuse_current(
    deployment: &DeploymentTarget,
    revision: i64,
    goal: &Workload,
) -> Result<(), Fault> {
    if template(&deployment.object) != template(goal) {
        return Ok(());
    }
    let name = &deployment.deployment_name;
    Err(Fault::Conflict { why: format!("deployment `{name}` already is as in revision {revision}") })
}

/// The pod template of a revision, as it was in the deployment.
pub(crate) fn template(workload: &Workload) -> Value {
    let mut template = workload.spec.template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    template
}

/// The deployment's annotations after a rollback.
pub(crate) fn annotations(deployment: &Workload, set: &Workload, stamp: &str) -> BTreeMap<String, String> {
    let of_a_revision = |name: &str| !NOT_OF_A_REVISION.contains(&name);
    let own = deployment.metadata.annotations.iter().flatten().filter(|(name, _)| !of_a_revision(name));
    let of_set = set.metadata.annotations.iter().flatten().filter(|(name, _)| of_a_revision(name));
    let mut annotations: BTreeMap<_, _> =
        own.chain(of_set).map(|(name, value)| (name.clone(), value.clone())).collect();
    annotations.insert(ACTION_ANNOTATION.to_owned(), stamp.to_owned());
    annotations
}
