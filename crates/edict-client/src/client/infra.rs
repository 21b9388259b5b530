//! `/executor/<id>/create-infra` and `remove-infra`: executors that the policy system sets up in a cluster.

use super::{Client, Stored};
use crate::Error;
use crate::records::{CreateInfra, ExecutorInfra, RemoveInfra, RemovedInfra, Seconds};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long the server waits unless it is told otherwise.
const WAIT: Duration = Duration::from_secs(300);

impl Client {
    /// Makes what an executor needs in a cluster, or goes on with it, and returns when the executor is healthy.
    ///
    /// The call may take as long as the request says that the server is to wait, on top of the usual time.
    pub async fn create_infra(
        &self,
        executor: &str,
        request: &CreateInfra,
    ) -> Result<Stored<ExecutorInfra>, Error> {
        let segments = ["executor", executor, "create-infra"];
        self.patient(Method::POST, &segments, request, request.wait).await
    }

    /// What is known of an executor's infrastructure.
    pub async fn executor_infra(&self, executor: &str) -> Result<ExecutorInfra, Error> {
        self.get(&["executor", executor, "infra"]).await
    }

    /// Removes what was made for an executor; succeeds when there is nothing. Waits like [`Client::create_infra`].
    pub async fn remove_infra(
        &self,
        executor: &str,
        request: &RemoveInfra,
    ) -> Result<Stored<RemovedInfra>, Error> {
        let segments = ["executor", executor, "remove-infra"];
        self.patient(Method::DELETE, &segments, request, request.wait).await
    }

    async fn patient<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: &impl Serialize,
        wait: Option<Seconds>,
    ) -> Result<Stored<T>, Error> {
        let wait = wait.map_or(WAIT, Seconds::duration);
        let request = self.request_without_timeout(method, self.path(segments)?).json(body);
        let limit = self.inner.timeout.saturating_add(wait);
        Ok(self.call(request.timeout(limit)).await?.stored())
    }
}
