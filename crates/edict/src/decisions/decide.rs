//! From a request to a decision: who asks is filled in, Python policies are asked, the outcome is counted and recorded.

use super::force::InForce;
use super::log::{Entry, Stamp};
use super::origin::Filled;
use super::{Decisions, Origin};
use crate::error::{ApiError, Code};
use edict_client::records::{self, DecisionError};
use edict_engine::{Answers, Decision, EvaluationError, Explanation, Request, RequestError, Timestamp};
use metrics::{Counter, Histogram};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// A request, with its context as the caller wrote it: that is what is recorded.
pub(super) struct Asked<'a> {
    request: Request<'a>,
    context: Option<Cow<'a, RawValue>>,
}

/// A decision that is recorded and may be given out; borrows from what decided.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decided<'s> {
    #[serde(flatten)]
    pub(super) decision: Decision<'s>,
    #[serde(serialize_with = "hyphenated")]
    pub(super) decision_id: Uuid,
}

/// The same with what each policy had to do with it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explained<'s> {
    #[serde(flatten)]
    explanation: Explanation<'s>,
    #[serde(serialize_with = "hyphenated")]
    decision_id: Uuid,
}

/// Looked up once: by name, a counter costs as much as a decision.
pub(super) struct Meters {
    allowed: Counter,
    denied: Counter,
    errors: Counter,
    duration: Histogram,
}

/// What was prepared before the engine decides.
struct Prepared<'o> {
    started: Instant,
    filled: Filled<'o>,
    now: Timestamp,
    answers: Answers,
}

impl Decisions {
    /// What decides at this moment. Whoever decides several requests together takes it once, so that all of them are
    /// decided alike.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.force.load_full()
    }

    /// Decides the request in `text`. The decision is recorded when this returns.
    ///
    /// # Errors
    /// 400 when the text is no request; 503 when the decision cannot be recorded.
    pub(crate) async fn evaluate(&self, text: &[u8], origin: &Origin) -> Result<records::Decision, ApiError> {
        let force = self.in_force();
        let decided = self.decide(&force, parse(text)?, origin).await?;
        Ok(decided.into_record())
    }

    pub(super) async fn decide<'s>(
        &self,
        force: &'s InForce,
        mut asked: Asked<'_>,
        origin: &Origin,
    ) -> Result<Decided<'s>, ApiError> {
        let prepared = self.prepare(force, &mut asked.request, origin).await;
        let decision = force.set.evaluate(&asked.request, prepared.now, &prepared.answers);
        let decision_id = self.record(&prepared, &asked, &decision, origin).await?;
        Ok(Decided { decision, decision_id })
    }

    pub(super) async fn explain<'s>(
        &self,
        force: &'s InForce,
        mut asked: Asked<'_>,
        origin: &Origin,
    ) -> Result<Explained<'s>, ApiError> {
        let prepared = self.prepare(force, &mut asked.request, origin).await;
        // It looks at every policy, which with many takes longer than other requests should wait.
        let explanation = tokio::task::block_in_place(|| {
            force.set.explain(&asked.request, prepared.now, &prepared.answers)
        });
        let decision_id = self.record(&prepared, &asked, &explanation.decision, origin).await?;
        Ok(Explained { explanation, decision_id })
    }

    async fn prepare<'o>(
        &self,
        force: &InForce,
        request: &mut Request<'_>,
        origin: &'o Origin,
    ) -> Prepared<'o> {
        let started = Instant::now();
        let filled = origin.fill_in(request);
        let now = Timestamp::now();
        let questions = force.set.questions(request, now);
        let answers =
            if questions.is_empty() { Answers::default() } else { self.ask(&questions, request).await };
        Prepared { started, filled, now, answers }
    }

    async fn record(
        &self,
        prepared: &Prepared<'_>,
        asked: &Asked<'_>,
        decision: &Decision<'_>,
        origin: &Origin,
    ) -> Result<Uuid, ApiError> {
        let duration = prepared.started.elapsed();
        let Asked { request, context } = asked;
        let Stamp { id: decision_id, at } = Stamp::now();
        let entry = Entry {
            decision_id,
            at,
            action: request.action(),
            resource: request.resource(),
            kind: request.kind(),
            user_id: request.context().get("userId").and_then(Value::as_str),
            context: context.as_deref(),
            ip_address: prepared.filled.ip,
            user_agent: prepared.filled.user_agent,
            allowed: decision.allowed,
            reason: &decision.reason,
            applied_policies: &decision.applied_policies,
            errors: &decision.errors,
            duration,
            request_id: &origin.request_id,
        };
        self.log.record(&entry).await?;
        let counter = if decision.allowed { &self.meters.allowed } else { &self.meters.denied };
        counter.increment(1);
        self.meters.errors.increment(decision.errors.len() as u64);
        self.meters.duration.record(duration);
        Ok(decision_id)
    }
}

impl Decided<'_> {
    fn into_record(self) -> records::Decision {
        let Decision { allowed, reason, applied_policies, errors } = self.decision;
        let error = |error: EvaluationError<'_>| DecisionError {
            policy: error.policy.to_owned(),
            field: error.field.to_owned(),
            message: error.message,
        };
        records::Decision {
            allowed,
            reason: reason.into_owned(),
            applied_policies: applied_policies.into_iter().map(str::to_owned).collect(),
            decision_id: self.decision_id.to_string(),
            errors: errors.into_iter().map(error).collect(),
        }
    }
}

impl Meters {
    pub(super) fn new() -> Self {
        metrics::describe_counter!("edict_decisions_total", "Decisions of the policy engine, by result");
        metrics::describe_counter!(
            "edict_decision_errors_total",
            "Conditions that could not be evaluated: denies denied and allows did not apply"
        );
        metrics::describe_gauge!(
            "edict_decision_policies",
            "Decision policies in force, those of the folder included"
        );
        metrics::describe_gauge!(
            "edict_decision_policies_unreadable",
            "Stored decision policies that this version cannot read"
        );
        metrics::describe_histogram!(
            "edict_decision_duration_seconds",
            "Time from a request that is read to its decision, Python policies included"
        );
        Self {
            allowed: metrics::counter!("edict_decisions_total", "result" => "allowed"),
            denied: metrics::counter!("edict_decisions_total", "result" => "denied"),
            errors: metrics::counter!("edict_decision_errors_total"),
            duration: metrics::histogram!("edict_decision_duration_seconds"),
        }
    }
}

/// Reads a request from JSON text.
///
/// # Errors
/// 400 that names the field.
pub(super) fn parse(text: &[u8]) -> Result<Asked<'_>, ApiError> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow)]
        context: Option<&'a RawValue>,
    }
    let request = Request::from_json(text).map_err(|error| {
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
        if json { refused(error) } else { ApiError::new(Code::MalformedJson, error.message) }
    })?;
    let raw: Raw<'_> = serde_json::from_slice(text).map_err(ApiError::internal)?;
    Ok(Asked { request, context: raw.context.map(Cow::Borrowed) })
}

impl<'a> Asked<'a> {
    /// A request that did not come as JSON.
    pub(super) fn new(request: Request<'a>) -> Result<Self, ApiError> {
        let context = to_raw_value(request.context()).map_err(ApiError::internal)?;
        Ok(Self { request, context: Some(Cow::Owned(context)) })
    }
}

/// The error for a request that cannot be decided.
pub(super) fn refused(error: RequestError) -> ApiError {
    let field = error.field.as_deref().unwrap_or(".");
    let known =
        [".", "action", "resource", "type", "context"].contains(&field) || field.starts_with("context.");
    let code = if known { Code::InvalidField } else { Code::UnknownField };
    ApiError::new(code, error.message).details(json!({"field": field}))
}

fn hyphenated<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}
