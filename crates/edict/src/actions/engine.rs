//! The policy engine's word: asked here for every action, whatever the request says that it said.

use crate::decisions::{Decisions, Origin};
use crate::error::{ApiError, Code};
use crate::settings::Settings;
use edict_kube::Action;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Largest reply of an engine in bytes.
const LARGEST: usize = 1 << 20;

/// The engine that is asked.
pub(super) enum Engine {
    /// The one in this process.
    Local(Arc<Decisions>),
    /// One elsewhere (`POLICY_ENGINE_URL`).
    Remote(Remote),
}

/// An engine that is reached over HTTP.
pub(super) struct Remote {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    timeout: Duration,
}

/// What an engine must say for its answer to count: more is kept, less is no answer.
#[derive(Deserialize)]
struct Answer {
    allowed: bool,
    #[serde(default)]
    reason: String,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) action_type: &'a str,
    pub(super) action: &'a Action,
    /// The action's parameters, which conditions see as metadata.
    pub(super) params: Map<String, Value>,
    pub(super) requested_by: &'a str,
    pub(super) dry_run: bool,
    pub(super) origin: &'a Origin,
}

impl Engine {
    /// # Errors
    /// When there can be no client for HTTP.
    pub(super) fn new(settings: &Settings, local: Arc<Decisions>) -> Result<Self, reqwest::Error> {
        let url = settings.policy_engine_url.trim_end_matches('/');
        if url.is_empty() {
            return Ok(Self::Local(local));
        }
        // What answers somewhere else is not the engine that was configured.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Ok(Self::Remote(Remote {
            http: http.user_agent(concat!("edict/", env!("CARGO_PKG_VERSION"))).build()?,
            url: format!("{url}/api/v1/policy/evaluate"),
            token: settings.policy_engine_token.given().map(str::to_owned),
            timeout: Duration::from_millis(settings.policy_engine_timeout_ms),
        }))
    }

    /// Asks whether an action is allowed. What the engine said is left in `decision`, whatever it was.
    ///
    /// # Errors
    /// 403 when it is not allowed, 503 when the engine does not answer with a decision: then nothing is.
    pub(super) async fn ask(
        &self,
        question: Question<'_>,
        decision: &mut Option<Value>,
    ) -> Result<(), ApiError> {
        let text = question.text();
        let said = match self {
            Self::Local(decisions) => {
                let said = decisions.evaluate(text.as_bytes(), question.origin).await?;
                serde_json::to_value(said).map_err(ApiError::internal)?
            }
            Self::Remote(remote) => remote.ask(text).await.map_err(|problem| {
                tracing::warn!(problem, "the policy engine gave no decision");
                ApiError::new(
                    Code::EngineUnavailable,
                    format!("the policy engine {problem}; nothing is allowed until it answers"),
                )
                .retry_after(Duration::from_secs(1))
            })?,
        };
        let answer = Answer::deserialize(&said).map_err(ApiError::internal)?;
        *decision = Some(said);
        if answer.allowed {
            return Ok(());
        }
        let reason = crate::shorten(&answer.reason);
        Err(ApiError::new(Code::ActionNotAllowed, format!("the policy engine does not allow this: {reason}")))
    }
}

impl Question<'_> {
    fn text(&self) -> String {
        let kind = match self.action {
            Action::RestartPod { .. } | Action::DeletePod { .. } => "pod",
            _ => "deployment",
        };
        let mut metadata = self.params.clone();
        metadata.insert("dryRun".to_owned(), Value::from(self.dry_run));
        let mut context = json!({"userId": self.requested_by, "role": "service", "metadata": metadata});
        let origin = [
            ("ipAddress", self.origin.ip.map(|ip| ip.to_string())),
            ("userAgent", self.origin.user_agent.clone()),
        ];
        if let Some(context) = context.as_object_mut() {
            let known =
                origin.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
            context.extend(known);
        }
        json!({
            "action": self.action_type,
            "resource": format!("{kind}:{}", self.action.name()),
            "type": "self_healing",
            "context": context,
        })
        .to_string()
    }
}

impl Remote {
    /// The engine's reply; the error continues "the policy engine …".
    async fn ask(&self, text: String) -> Result<Value, String> {
        let mut request = self.http.post(&self.url).timeout(self.timeout).body(text);
        request = request.header(reqwest::header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await.map_err(|error| self.explain(&error))?;
        if !response.status().is_success() {
            return Err(format!("answered with status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.explain(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(format!("answered with more than {} MiB", LARGEST >> 20));
            }
        }
        let said: Value =
            serde_json::from_slice(&body).map_err(|_| "answered with something else than JSON")?;
        match Answer::deserialize(&said) {
            // A struct may be read from a list as well, which nobody means by `[true]`.
            Ok(_) if said.is_object() => Ok(said),
            _ => Err("answered without a decision: `allowed` must be true or false".to_owned()),
        }
    }

    /// Without the address, which callers need not know.
    fn explain(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("did not answer within {} ms", self.timeout.as_millis());
        }
        tracing::debug!(%error, "asking the policy engine");
        "cannot be reached".to_owned()
    }
}
