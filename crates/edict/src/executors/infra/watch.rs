//! Waiting until an executor is healthy: its pod is ready, it has an address, reports, and can be reached there.

use super::claim::Claim;
use super::create::record;
use super::refusal;
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::store::Statement;
use edict_kube::{Cluster, Infra, InfraProblem, InfraState};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// A problem that has lasted for so long is one that somebody must mend: pulling an image has been tried again by then.
const LASTING: Duration = Duration::from_secs(20);
/// Problems that go away by themselves: when there are more nodes, or less on them.
const PASSING: [&str; 3] = ["Unschedulable", "Evicted", "NodeLost"];
/// How long the executor may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// An executor on its way to be healthy.
pub(super) struct Watch<'a> {
    app: &'a App,
    cluster: &'a Cluster,
    infra: &'a Infra,
    wait: Duration,
    end: Instant,
    /// Since when there is a problem that somebody must mend.
    problem: Option<Instant>,
    /// When the executor's pod was ready and had an address, in microseconds since 1970.
    ready: Option<i64>,
}

/// What is still to come.
struct Missing {
    reason: String,
    message: String,
}

impl Missing {
    fn new(reason: &str, message: &str) -> Self {
        Self { reason: reason.to_owned(), message: message.to_owned() }
    }
}

impl<'a> Watch<'a> {
    pub(super) fn new(app: &'a App, cluster: &'a Cluster, infra: &'a Infra, wait: Duration) -> Self {
        Self { app, cluster, infra, wait, end: Instant::now() + wait, problem: None, ready: None }
    }

    /// Returns when the executor is healthy; what is still missing is the claim's step.
    ///
    /// # Errors
    /// 502 `infra_failed` when the time is over, or for a problem that does not go away by itself.
    pub(super) async fn until_healthy(mut self, claim: &mut Claim) -> Result<(), ApiError> {
        loop {
            let missing = match self.look(claim).await {
                Ok(None) => return Ok(()),
                Ok(Some(missing)) => missing,
                // It may be back in time: the API server of a small cluster restarts now and then.
                Err(fault) if passing(&fault) && Instant::now() < self.end => {
                    Missing::new("cluster", fault.message())
                }
                Err(fault) => return Err(fault),
            };
            claim.step(&missing.message).await?;
            if Instant::now() >= self.end {
                return Err(self.failure(&missing, &format!("after {} s", self.wait.as_secs())));
            }
            if self.problem.is_some_and(|since| since.elapsed() >= LASTING) {
                return Err(self.failure(&missing, "and will not become so by itself"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn failure(&self, missing: &Missing, how: &str) -> ApiError {
        let (id, namespace) = (&self.infra.mark.executor_id, &self.infra.namespace);
        let message = format!(
            "executor `{id}` in namespace `{namespace}` is not healthy {how}: {}; mend that and send the request again, or \
             remove the infrastructure",
            missing.message
        );
        ApiError::new(Code::InfraFailed, message).details(json!({"reason": missing.reason}))
    }

    async fn look(&mut self, claim: &mut Claim) -> Result<Option<Missing>, ApiError> {
        let state = self.cluster.infra_state(self.infra).await.map_err(|fault| refusal(&fault))?;
        if let InfraState::Waiting(problem) = state {
            self.ready = None;
            return Ok(Some(self.starting(problem)));
        }
        self.problem = None;
        if claim.infra.executor_host_uri.is_none() {
            self.find(claim).await?;
        }
        let Some(address) = claim.infra.executor_host_uri.clone() else {
            return Ok(Some(Missing::new("address", "the cluster has given the executor no address yet")));
        };
        let ready = *self.ready.get_or_insert_with(crate::now_micros);
        if !self.has_reported(ready).await? {
            let message = format!(
                "its pod runs, but it does not report to `{}`: see whether the cluster can reach that `server_url`",
                claim.infra.server_url
            );
            return Ok(Some(Missing::new("report", &message)));
        }
        if let Err(problem) = self.is_reached(&address).await {
            let message = format!(
                "it runs and reports, but cannot be reached at `{address}` from here ({problem}): open the way, or \
                 choose another `exposure`, `ingress` or `executor_host_uri`"
            );
            return Ok(Some(Missing::new("reach", &message)));
        }
        Ok(None)
    }

    /// What a pod that is not ready lacks.
    fn starting(&mut self, problem: Option<InfraProblem>) -> Missing {
        let Some(problem) = problem else {
            self.problem = None;
            return Missing::new("start", "its pod is being started");
        };
        // The reason may change to and fro, as it does between two attempts to pull an image.
        self.problem = match PASSING.contains(&problem.reason.as_str()) {
            true => None,
            false => self.problem.or_else(|| Some(Instant::now())),
        };
        Missing::new(&problem.reason, &problem.to_string())
    }

    /// Records the executor's address, once there is one.
    async fn find(&self, claim: &mut Claim) -> Result<(), ApiError> {
        let found = self.cluster.infra_address(self.infra).await.map_err(|fault| refusal(&fault))?;
        let Some(address) = found else { return Ok(()) };
        let uri = address.to_string();
        record(self.app, &self.infra.mark.executor_id, Some(&uri)).await?;
        claim.infra.executor_host_uri = Some(uri);
        claim.save().await
    }

    /// Whether the executor said that it lives since then: what it said before may be its predecessor's, and its status is
    /// `pending` while it has no address.
    async fn has_reported(&self, since: i64) -> Result<bool, ApiError> {
        let sql = "SELECT executor_id FROM heartbeats WHERE executor_id = $1 AND seen_at >= $2";
        let statement = Statement::new(sql).bind(self.infra.mark.executor_id.as_str()).bind(since);
        Ok(self.app.registry.store.fetch_one::<(String,)>(statement).await?.is_some())
    }

    async fn is_reached(&self, address: &str) -> Result<(), String> {
        let url = format!("{}/healthz", address.trim_end_matches('/'));
        let sent = self.app.http.get(url).timeout(ANSWER).send().await;
        match sent.map_err(reqwest::Error::without_url) {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("HTTP status {}", response.status().as_u16())),
            Err(error) if error.is_timeout() => Err("no answer in time".to_owned()),
            Err(error) if error.is_connect() => Err("it cannot be connected to".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether a cluster that answers so may be well again in a moment.
fn passing(error: &ApiError) -> bool {
    matches!(error.code(), Code::ClusterUnavailable | Code::ClusterTimeout)
}
