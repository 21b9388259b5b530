//! The target of an action, and whether its state allows it.

use crate::call::Call;
use crate::target::{DeploymentTarget, Owner, PodTarget, Workload};
use crate::{ACTION_ANNOTATION, Action, Cluster, Fault, Right, Target, names, rollback};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::GetParams;
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use serde::Deserialize;

/// The part that every object has.
#[derive(Deserialize)]
struct Anything {
    metadata: ObjectMeta,
}

impl Cluster {
    /// The target as it is, and whether its state allows the action.
    ///
    /// # Errors
    /// It is not there; its state forbids the action (a pod that nothing would bring back, a paused deployment, a revision
    /// that is the current one or does not exist); the API server does not tell.
    pub async fn look(&self, action: &Action) -> Result<Target, Fault> {
        action.check()?;
        let (namespace, name) = (action.namespace(), action.name());
        match action {
            Action::RestartPod { force, .. } => {
                let pod = self.pod(namespace, name).await?;
                if !force {
                    self.would_come_back(&pod).await?;
                }
                Ok(Target::Pod(Box::new(pod)))
            }
            Action::DeletePod { .. } => Ok(Target::Pod(Box::new(self.pod(namespace, name).await?))),
            Action::ScaleDeployment { .. } => {
                Ok(Target::Deployment(Box::new(self.deployment(namespace, name).await?)))
            }
            Action::RestartDeployment { .. } => {
                let deployment = self.deployment(namespace, name).await?;
                deployment.refuse_paused("restarted")?;
                Ok(Target::Deployment(Box::new(deployment)))
            }
            Action::RollbackDeployment { revision, .. } => {
                let mut deployment = self.deployment(namespace, name).await?;
                let kept = self.revisions(&deployment).await?;
                let (to, goal) = rollback::choose(&deployment, kept, *revision)?;
                deployment.refuse_paused("rolled back")?;
                rollback::refuse_current(&deployment, to, &goal)?;
                deployment.to_revision = Some(to);
                deployment.goal = Some(goal);
                Ok(Target::Deployment(Box::new(deployment)))
            }
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<PodTarget, Fault> {
        let pod: Option<Pod> = self.get::<Pod, _>(namespace, name).await?;
        let pod = PodTarget::new(pod.ok_or_else(|| missing("pod", namespace, name))?);
        if pod.object.metadata.deletion_timestamp.is_some() {
            return Err(Fault::Conflict { why: format!("pod `{name}` is already being deleted") });
        }
        Ok(pod)
    }

    pub(crate) async fn deployment(&self, namespace: &str, name: &str) -> Result<DeploymentTarget, Fault> {
        let deployment: Option<Workload> = self.get::<Deployment, _>(namespace, name).await?;
        let deployment =
            DeploymentTarget::new(deployment.ok_or_else(|| missing("deployment", namespace, name))?);
        if deployment.object.metadata.deletion_timestamp.is_some() {
            return Err(Fault::Conflict { why: format!("deployment `{name}` is being deleted") });
        }
        Ok(deployment)
    }

    /// Refuses a pod whose controller is not there, or is on its way out: it would not come back.
    async fn would_come_back(&self, pod: &PodTarget) -> Result<(), Fault> {
        let name = &pod.pod_name;
        let conflict = |why: String| {
            let why =
                format!("pod `{name}` {why}, so it would not come back; `force` restarts it all the same");
            Err(Fault::Conflict { why })
        };
        let Some(owner) = &pod.owner else {
            return conflict("has no controller".to_owned());
        };
        let shown = format!("{} `{}`", owner.kind, owner.name);
        match self.metadata(&pod.namespace, owner).await? {
            Some(found) if found.uid.as_deref() != Some(&owner.uid) => {
                conflict(format!("belongs to another {shown} than there is now"))
            }
            Some(found) if found.deletion_timestamp.is_some() => {
                conflict(format!("belongs to {shown}, which is being deleted"))
            }
            Some(_) => Ok(()),
            None => conflict(format!("belongs to {shown}, which is gone")),
        }
    }

    /// A controller may be of any kind, those of custom resources too.
    async fn metadata(&self, namespace: &str, owner: &Owner) -> Result<Option<ObjectMeta>, Fault> {
        names::check("name", &owner.name, names::is_subdomain)?;
        let (group, version) = owner.api_version.rsplit_once('/').unwrap_or(("", &owner.api_version));
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &owner.kind));
        let (path, resource) = if group.is_empty() {
            (format!("/api/{version}"), kind.plural.clone())
        } else {
            (format!("/apis/{group}/{version}"), format!("{}.{group}", kind.plural))
        };
        let right = Right { verb: "get", resource, namespace: namespace.to_owned() };
        let path = format!("{path}/namespaces/{namespace}/{}", kind.plural);
        let call = Call::custom(right, path, |path| path.get_metadata(&owner.name, &GetParams::default()));
        let found: Option<Anything> = self.ask(call).await?;
        Ok(found.map(|found| found.metadata))
    }
}

/// That there is no such target.
pub(crate) fn missing(kind: &'static str, namespace: &str, name: &str) -> Fault {
    Fault::NotFound { kind, name: name.to_owned(), namespace: namespace.to_owned() }
}

impl PodTarget {
    fn new(object: Pod) -> Self {
        let metadata = &object.metadata;
        let controller =
            metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let owner = controller.map(|owner| Owner {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        });
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            pod_name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            node: object.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            owner,
            object,
        }
    }
}

impl DeploymentTarget {
    fn new(object: Workload) -> Self {
        let metadata = &object.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            deployment_name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            replicas: object.spec.replicas.unwrap_or(1),
            revision: object.annotation(rollback::REVISION).and_then(|revision| revision.parse().ok()),
            to_revision: None,
            last_action: object.annotation(ACTION_ANNOTATION).cloned(),
            object,
            goal: None,
        }
    }

    fn refuse_paused(&self, done: &str) -> Result<(), Fault> {
        if !self.object.spec.paused {
            return Ok(());
        }
        let name = &self.deployment_name;
        let why = format!(
            "deployment `{name}` is paused and cannot be {done}: resume it first, `kubectl rollout resume deployment/{name}`"
        );
        Err(Fault::Conflict { why })
    }
}
