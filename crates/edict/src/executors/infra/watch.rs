//! Waiting until an executor is healthy: its pod is ready, it has an address, reports, and can be reached there.

use super::claim::Claim;
use super::create::record;
use super::refusal;
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::store::Statement;
use edict_kube::{Cluster, Fault, Infra, InfraState, Problem, ProblemKind};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// A problem that nobody mends has lasted for so long: pulling an image is tried again by then.
const LASTING: Duration = Duration::from_secs(20);
/// How long the executor may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// An executor on its way to be healthy.
pub(super) struct Watch<'a> {
    app: &'a App,
    cluster: &'a Cluster,
    infra: &'a Infra,
    wait: Duration,
    end: Instant,
    /// The problem that was seen last, and since when.
    problem: Option<(ProblemKind, Instant)>,
    /// When the executor's pod became ready, in microseconds since 1970.
    ready: Option<i64>,
}

/// What is still to come.
struct Missing {
    reason: &'static str,
    message: String,
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
                    Missing { reason: "cluster", message: fault.to_string() }
                }
                Err(fault) => return Err(fault),
            };
            claim.step(&missing.message).await?;
            if Instant::now() >= self.end {
                return Err(self.failure(&missing, &format!("after {} s", self.wait.as_secs())));
            }
            if self.problem.is_some_and(|(kind, since)| lasts(kind) && since.elapsed() >= LASTING) {
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
        if claim.infra.executor_host_uri.is_none() {
            self.find(claim).await?;
        }
        let state = self.cluster.infra_state(self.infra).await.map_err(|fault| refusal(&fault))?;
        if let InfraState::Waiting(problem) = state {
            self.ready = None;
            return Ok(Some(self.starting(problem)));
        }
        self.problem = None;
        let ready = *self.ready.get_or_insert_with(crate::now_micros);
        let Some(address) = claim.infra.executor_host_uri.clone() else {
            let message = "the cluster has given the executor no address yet";
            return Ok(Some(Missing { reason: "address", message: message.to_owned() }));
        };
        if !self.has_reported(ready).await? {
            let message = format!(
                "its pod runs, but it does not report to `{}`: see whether the cluster can reach that `server_url`",
                claim.infra.server_url
            );
            return Ok(Some(Missing { reason: "report", message }));
        }
        if let Err(problem) = self.is_reached(&address).await {
            let message = format!(
                "it runs and reports, but cannot be reached at `{address}` from here ({problem}): open the way, or \
                 choose another `exposure`, `ingress` or `executor_host_uri`"
            );
            return Ok(Some(Missing { reason: "reach", message }));
        }
        Ok(None)
    }

    /// What a pod that is not ready lacks.
    fn starting(&mut self, problem: Option<Problem>) -> Missing {
        let Some(problem) = problem else {
            self.problem = None;
            return Missing { reason: "start", message: "its pod is being started".to_owned() };
        };
        let since = self.problem.filter(|(kind, _)| *kind == problem.kind).map(|(_, since)| since);
        self.problem = Some((problem.kind, since.unwrap_or_else(Instant::now)));
        Missing { reason: word(problem.kind), message: problem.message }
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

    /// Whether the executor said that it lives since its pod is ready: what it said before may be its predecessor's.
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

/// Whether somebody has to mend it.
fn lasts(kind: ProblemKind) -> bool {
    !matches!(kind, ProblemKind::Unschedulable | ProblemKind::Evicted | ProblemKind::Other)
}

fn word(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Image => "image",
        ProblemKind::Quota => "quota",
        ProblemKind::Unschedulable => "unschedulable",
        ProblemKind::OutOfMemory => "out_of_memory",
        ProblemKind::Crashed => "crashed",
        ProblemKind::Deadline => "deadline",
        ProblemKind::Evicted => "evicted",
        ProblemKind::Config => "config",
        ProblemKind::Other => "start",
    }
}
