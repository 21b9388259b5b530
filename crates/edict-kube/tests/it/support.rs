//! What the tests have in common.

use edict_kube::{Action, Cluster, Fault, Health, Outcome, Target};
use edict_testbed::{Namespace, Proxy};
use serde_json::Value;
use std::time::Duration;

/// Longest wait for something that a cluster does in seconds.
pub(crate) const PATIENCE: Duration = edict_testbed::PATIENCE;

/// How long the API server has for an answer, where a test is not about that.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A namespace, and a cluster as Edict sees it.
pub(crate) struct Test {
    pub(crate) namespace: Namespace,
    pub(crate) cluster: Cluster,
}

impl Test {
    /// None, with a line that says so, without a cluster.
    pub(crate) async fn start() -> Option<Self> {
        let namespace = Namespace::new()?;
        let cluster = Cluster::connect(Some(&namespace.kubeconfig()), TIMEOUT).await.unwrap();
        Some(Self { namespace, cluster })
    }

    /// With a way to the API server that misbehaves.
    pub(crate) async fn with_proxy(timeout: Duration) -> Option<(Self, Proxy)> {
        let namespace = Namespace::new()?;
        let proxy = Proxy::start(&namespace).await;
        let cluster = Cluster::connect(Some(&proxy.kubeconfig(&namespace)), timeout).await.unwrap();
        Some((Self { namespace, cluster }, proxy))
    }

    pub(crate) fn restart_pod(&self, pod: &str, force: bool) -> Action {
        Action::RestartPod { namespace: self.name(), pod_name: pod.to_owned(), force }
    }

    pub(crate) fn delete_pod(&self, pod: &str) -> Action {
        Action::DeletePod { namespace: self.name(), pod_name: pod.to_owned() }
    }

    pub(crate) fn scale(&self, deployment: &str, replicas: i32) -> Action {
        Action::ScaleDeployment { namespace: self.name(), deployment_name: deployment.to_owned(), replicas }
    }

    pub(crate) fn rollback(&self, deployment: &str, revision: Option<i64>) -> Action {
        Action::RollbackDeployment {
            namespace: self.name(),
            deployment_name: deployment.to_owned(),
            revision,
        }
    }

    pub(crate) fn restart(&self, deployment: &str) -> Action {
        Action::RestartDeployment { namespace: self.name(), deployment_name: deployment.to_owned() }
    }

    fn name(&self) -> String {
        self.namespace.name().to_owned()
    }

    /// Looks and acts.
    pub(crate) async fn act(&self, action: &Action, stamp: &str) -> Result<Outcome, Fault> {
        let target = self.cluster.look(action).await?;
        self.cluster.perform(action, &target, stamp, false).await
    }

    /// Looks, acts, and waits until the workload is healthy.
    pub(crate) async fn act_and_settle(&self, action: &Action, stamp: &str) -> (Value, Health) {
        let outcome = self.act(action, stamp).await.unwrap();
        let health = self.cluster.settle(action, &outcome, PATIENCE).await.unwrap();
        (serde_json::to_value(outcome).unwrap(), health)
    }

    pub(crate) async fn look(&self, action: &Action) -> Target {
        self.cluster.look(action).await.unwrap()
    }
}

/// The conflict's words.
pub(crate) fn conflict<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
    match result {
        Err(Fault::Conflict { why }) => why,
        other => panic!("no conflict: {other:?}"),
    }
}
