//! The order in which a request is looked at, and what the trail says of it.
//!
//! INVARIANT (trail-first): nothing is changed before the trail says `in_progress`, and what was changed has an end in the
//! trail: written here, or by [`recovery`](super::recovery) with what the cluster shows.

use super::counters::{self, Ended};
use super::engine::Question;
use super::limits::Kind;
use super::request::Request;
use super::{Actions, attempt, cluster, parameters, signature};
use crate::audit::{Attempt, End};
use crate::decisions::Origin;
use crate::error::{ApiError, Code};
use edict_client::records::AuditStatus;
use edict_kube::{Action, Cluster, Done, Fault, Outcome};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Pause between two tries of what must succeed in the end.
const AGAIN: Duration = Duration::from_millis(500);

/// Where the evidence has what the policy engine said: should this server die, whoever ends the action knows it.
pub(super) const DECISION: &str = "policyDecision";

/// What the caller is told.
pub(super) struct Answer {
    /// None when the trail could not be written, so that nothing was done.
    pub(super) audit_id: Option<Uuid>,
    pub(super) outcome: Result<Value, ApiError>,
}

/// How far an action has come.
#[derive(Default)]
struct Progress {
    /// What the policy engine said.
    decision: Option<Value>,
    /// Where something was found: text of a caller that has proved to be a namespace.
    namespace: Option<String>,
    /// The trail says `in_progress`.
    begun: bool,
}

impl Actions {
    /// Takes a request, from its text to the end of its action.
    pub(super) async fn take(self: Arc<Self>, body: &[u8], origin: &Origin) -> Answer {
        let request = match Request::read(body) {
            Ok(request) => request,
            Err(error) => return self.reject(&attempt::unreadable(body, origin), error).await,
        };
        let attempt = attempt::of(&request, origin);
        if let Err(error) = self.authenticate(&request).await {
            return self.reject(&attempt, error).await;
        }
        let started = Instant::now();
        let id = match self.audit.open(&attempt).await {
            Ok(id) => id,
            Err(error) => return Answer { audit_id: None, outcome: Err(error) },
        };
        let mut progress = Progress::default();
        let outcome = self.carry_out(id, &request, origin, &mut progress).await;
        self.end(id, &request, progress, &outcome, started.elapsed()).await;
        Answer { audit_id: Some(id), outcome }
    }

    /// Whether the request comes from somebody who holds the key, and only once where it says so.
    async fn authenticate(&self, request: &Request) -> Result<(), ApiError> {
        let Some(key) = self.settings.jwt_secret.given() else {
            if self.settings.bind.is_loopback() {
                return Ok(());
            }
            return Err(ApiError::new(
                Code::SignatureMissing,
                "this server has no `jwt_secret` (JWT_SECRET) to check signatures with, and beyond loopback it carries \
                 out nothing without: have its operator set one",
            ));
        };
        let Some(signature) = &request.signature else {
            return Err(ApiError::new(
                Code::SignatureMissing,
                "the request has no `signature`: sign `actionType`, `actionParams` and `requestedBy` with the server's \
                 JWT_SECRET",
            ));
        };
        if !signature::verify(key, &request.versions(), signature) {
            return Err(ApiError::new(
                Code::SignatureInvalid,
                "the signature does not belong to this request: sign `actionType`, `actionParams` and `requestedBy` \
                 (and `timestamp` and `nonce` if you send them) exactly as they are sent, with the server's JWT_SECRET",
            ));
        }
        self.nonces.take(request).await
    }

    async fn carry_out(
        &self,
        id: Uuid,
        request: &Request,
        origin: &Origin,
        progress: &mut Progress,
    ) -> Result<Value, ApiError> {
        let action = parameters::action(&request.action_type, &request.params, self.settings.max_scale)?;
        self.check_namespace(action.namespace(), progress)?;
        if request.claimed == Some(false) {
            return Err(ApiError::new(
                Code::ActionNotAllowed,
                "the `policyDecision` that came with the request says itself that this is not allowed",
            ));
        }
        let question = Question {
            action_type: &request.action_type,
            action: &action,
            params: serde_json::from_str(request.params_text.get()).map_err(ApiError::internal)?,
            requested_by: &request.requested_by,
            dry_run: request.dry_run,
            origin,
        };
        self.engine.ask(question, &mut progress.decision).await?;
        let kind = Kind::of(&action);
        let limit = (!request.dry_run).then(|| kind.limit(&self.settings));
        if let Some(limit) = limit
            && let Some(wait) = self.audit.room(kind.as_str(), limit).await?
        {
            return Err(kind.refusal(limit, wait));
        }
        let cluster = self.clusters.get().await?;
        let target = cluster.look(&action).await.map_err(|fault| cluster::refusal(&fault))?;
        progress.namespace = Some(action.namespace().to_owned());
        let mut evidence = target.evidence();
        if let (Value::Object(evidence), Some(decision)) = (&mut evidence, &progress.decision) {
            evidence.insert(DECISION.to_owned(), decision.clone());
        }
        if let Err(wait) = self.audit.begin(id, kind.as_str(), limit, &evidence).await? {
            let limit = kind.limit(&self.settings);
            return Err(kind.refusal(limit, wait));
        }
        progress.begun = true;
        if !self.audit.holds() {
            return Err(ApiError::new(
                Code::ShuttingDown,
                "this server has lost touch with the database, so that others take it for gone; nothing was changed, \
                 try again",
            ));
        }
        match cluster.perform(&action, &target, &id.to_string(), request.dry_run).await {
            Ok(outcome) => self.settled(cluster, &action, &outcome, request.wait).await,
            Err(fault) if fault.uncertain() && !request.dry_run => {
                self.look_again(cluster, id, &action, &evidence, fault).await
            }
            Err(fault) => Err(cluster::refusal(&fault)),
        }
    }

    fn check_namespace(&self, namespace: &str, progress: &mut Progress) -> Result<(), ApiError> {
        let allowed = &self.settings.allowed_namespaces;
        if allowed.iter().any(|allowed| allowed == namespace) {
            progress.namespace = Some(namespace.to_owned());
            return Ok(());
        }
        if allowed.iter().any(|allowed| allowed == "*") {
            return Ok(());
        }
        Err(ApiError::new(
            Code::NamespaceNotAllowed,
            format!(
                "nothing is changed in namespace `{namespace}`: it is not among the server's ALLOWED_NAMESPACES, to \
                 which its operator may add it"
            ),
        ))
    }

    /// What was done, and whether the workload came back, if somebody waits for that.
    async fn settled(
        &self,
        cluster: &Cluster,
        action: &Action,
        outcome: &Outcome,
        wait: Option<Duration>,
    ) -> Result<Value, ApiError> {
        let mut result = serde_json::to_value(outcome).map_err(ApiError::internal)?;
        let Some(patience) = wait else { return Ok(result) };
        let unknown = |reason: String| json!({"healthy": false, "reason": reason});
        let health = tokio::select! {
            health = cluster.settle(action, outcome, patience) => match health {
                Ok(health) => serde_json::to_value(health).map_err(ApiError::internal)?,
                Err(fault) => unknown(format!("not known: {fault}")),
            },
            () = self.stopping.cancelled() => unknown("not known: the server was told to stop".to_owned()),
        };
        if let Value::Object(result) = &mut result {
            result.insert("health".to_owned(), health);
        }
        Ok(result)
    }

    /// Finds out whether a change was made of which no answer came.
    async fn look_again(
        &self,
        cluster: &Cluster,
        id: Uuid,
        action: &Action,
        evidence: &Value,
        fault: Fault,
    ) -> Result<Value, ApiError> {
        let stamp = id.to_string();
        // As long as the API server may still be at it.
        let until = Instant::now() + self.clusters.timeout * 2;
        loop {
            let last = Instant::now() >= until;
            let shown = match cluster.shows(action, evidence, &stamp).await {
                Ok(Done::Yes) => {
                    return Ok(json!({"found": "the cluster shows that it was done", "before": evidence}));
                }
                Ok(Done::No) => "so far the cluster shows no sign of it".to_owned(),
                Ok(Done::Unknown { why }) => format!("whether it was done is not known: {why}"),
                Err(_) => {
                    "whether it was done is not known: look at the target before you ask again".to_owned()
                }
            };
            if last || self.stopping.is_cancelled() {
                let error = cluster::refusal(&fault);
                return Err(ApiError::new(error.code(), format!("{}; {shown}", error.message())));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn reject(&self, attempt: &Attempt, error: ApiError) -> Answer {
        counters::count(&attempt.action_type, None, Ended::Rejected, None);
        counters::count_refusal(&attempt.action_type, error.code());
        match self.audit.reject(attempt, &error).await {
            Ok(id) => Answer { audit_id: Some(id), outcome: Err(error) },
            Err(unwritten) => Answer { audit_id: None, outcome: Err(unwritten) },
        }
    }

    /// Writes the end of an action into the trail and counts it.
    async fn end(
        self: &Arc<Self>,
        id: Uuid,
        request: &Request,
        progress: Progress,
        outcome: &Result<Value, ApiError>,
        took: Duration,
    ) {
        let (status, ended) = match outcome {
            Ok(_) if request.dry_run => (AuditStatus::Completed, Ended::DryRun),
            Ok(_) => (AuditStatus::Completed, Ended::Completed),
            Err(_) if progress.begun => (AuditStatus::Failed, Ended::Failed),
            Err(_) => (AuditStatus::Rejected, Ended::Rejected),
        };
        counters::count(&request.action_type, progress.namespace.as_deref(), ended, Some(took));
        if let Err(error) = outcome {
            counters::count_refusal(&request.action_type, error.code());
        }
        let reason = outcome.as_ref().err();
        let end = End {
            status,
            error: reason.map(|error| (error.code().as_str().to_owned(), error.message().to_owned())),
            result: outcome.as_ref().ok().cloned(),
            decision: progress.decision,
            execution: took,
        };
        self.close(id, end).await;
    }

    /// Writes an action's end, now or, if the database is away, as soon as it is back: what was done cannot be undone by
    /// telling the caller otherwise.
    async fn close(self: &Arc<Self>, id: Uuid, end: End) {
        if self.closed(id, &end).await {
            return;
        }
        let actions = Arc::clone(self);
        self.running.spawn(async move {
            while !actions.closed(id, &end).await {
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    async fn closed(&self, id: Uuid, end: &End) -> bool {
        match self.audit.close(id, end.clone()).await {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!(%id, "another server has ended this action in the audit trail");
                true
            }
            Err(error) => {
                tracing::error!(%id, error = error.message(), "the end of an action is not in the audit trail yet");
                error.code() != Code::StorageUnavailable
            }
        }
    }
}
