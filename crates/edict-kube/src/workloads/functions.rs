//! Functions as Deployments: made, brought to what is wanted, removed.
//!
//! INVARIANT (found): a function's service is made before everything else and removed after it, so that whatever a crash
//! leaves is found again by it.

use super::function_manifest::{Manifests, function_name};
use super::stamp::is_current;
use super::{DEPLOYMENTS, FUNCTION, SCALERS, SECRETS, SERVICES, Workloads, annotation};
use crate::Fault;
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The component that functions are, in labels.
pub(super) const COMPONENT: &str = "function";
/// How long a Deployment may take to go.
const GONE: Duration = Duration::from_secs(30);

/// A function, as it is wanted.
#[derive(Debug, Clone)]
pub struct FunctionPods {
    /// Its name.
    pub name: String,
    /// What its replicas are made from: those of another one are replaced.
    pub edition: String,
    /// What the image's program is called with.
    pub args: Vec<String>,
    /// Variables, beside those of all pods.
    pub env: BTreeMap<String, String>,
    /// Variables that nobody else may read. When they change, the replicas are replaced.
    pub secret: BTreeMap<String, String>,
    /// Labels that nodes must have.
    pub node_selector: BTreeMap<String, String>,
    /// What the policy may take, in MiB.
    pub memory_mb: u64,
    /// How many replicas, without autoscaling.
    pub replicas: u32,
    /// How Kubernetes chooses their number.
    pub autoscale: Option<Autoscale>,
    /// How long a replica that is told to go may take.
    pub grace: Duration,
    /// Where its replicas listen.
    pub port: u16,
    /// How long a replica may take until it is ready.
    pub start_patience: Duration,
}

/// How Kubernetes chooses the number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autoscale {
    /// The fewest.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// Processor time that is aimed at, in percent of what a pod asks for.
    pub target_percent: u32,
    /// For how many seconds more must have been wanted before there are more.
    pub up_window: u32,
    /// For how many seconds fewer must have been enough before there are fewer.
    pub down_window: u32,
}

impl Workloads {
    /// Brings a function's objects to what is wanted. It sends nothing when they are seen to be so.
    ///
    /// # Errors
    /// The cluster does not take it, or an object of that name is not ours.
    pub async fn put_function(&self, function: &FunctionPods) -> Result<(), Fault> {
        let name = function_name(&function.name);
        let there = self.deployments.get(&name);
        let manifests = Manifests::new(self, function, there.as_deref());
        if !is_current(self.services.get(&name).as_deref().map(|it| &it.metadata), &manifests.service) {
            self.cluster.put(&self.mark, COMPONENT, manifests.service).await?;
        }
        self.put_secret(COMPONENT, manifests.secret).await?;
        let current = is_current(there.as_deref().map(|it| &it.metadata), &manifests.deployment);
        if !current || replicas(there.as_deref()) != manifests.deployment["spec"]["replicas"].as_i64() {
            self.cluster.put(&self.mark, COMPONENT, manifests.deployment).await?;
        }
        let scaler = self.scalers.get(&name);
        match manifests.scaler {
            Some(wanted) if !is_current(scaler.as_deref().map(|it| &it.metadata), &wanted) => {
                self.cluster.put(&self.mark, COMPONENT, wanted).await?;
            }
            None if scaler.is_some() => {
                self.cluster.take_away(&self.mark, &self.reference(SCALERS, &name)).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes all objects of a function, and waits until its Deployment is gone; its pods leave by themselves.
    ///
    /// # Errors
    /// The cluster does not do it, or one is not ours.
    pub async fn remove_function(&self, function: &str) -> Result<(), Fault> {
        let name = function_name(function);
        self.doubt_secret(&name);
        for kind in [SCALERS, DEPLOYMENTS, SECRETS] {
            self.cluster.take_away(&self.mark, &self.reference(kind, &name)).await?;
        }
        if !self.until(GONE, || self.deployments.get(&name).is_none()).await {
            let why = format!("deployment `{name}` is being deleted, and something keeps it");
            return Err(Fault::Conflict { why });
        }
        self.cluster.take_away(&self.mark, &self.reference(SERVICES, &name)).await?;
        self.until(GONE, || self.services.get(&name).is_none()).await;
        Ok(())
    }

    /// The functions of which something is seen.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        let of = |metadata: &ObjectMeta| annotation(metadata, FUNCTION).map(str::to_owned);
        let mut names = BTreeSet::new();
        names.extend(self.services.all().iter().filter_map(|it| of(&it.metadata)));
        names.extend(self.deployments.all().iter().filter_map(|it| of(&it.metadata)));
        names.extend(self.scalers.all().iter().filter_map(|it| of(&it.metadata)));
        names.into_iter().collect()
    }
}

fn replicas(deployment: Option<&Deployment>) -> Option<i64> {
    Some(deployment?.spec.as_ref()?.replicas?.into())
}
