//! Conditions that a Python policy decides (`policyRuleUri`).

use super::Decisions;
use edict_client::records::ExecutePolicy;
use edict_engine::{Answers, Request};
use futures::future::join_all;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::fmt::Display;

impl Decisions {
    /// Asks Python policies, all at the same time and all about the whole request. Whatever is not a clear answer is
    /// one that the engine takes for none (INVARIANT fail closed).
    pub(super) async fn ask(&self, questions: &[&str], request: &Request<'_>) -> Answers {
        let input = input(request);
        let asked = questions.iter().map(async |uri| {
            let answer = match &input {
                Ok(input) => self.answer(uri, input.clone()).await,
                Err(error) => Err(error.clone()),
            };
            (*uri, answer)
        });
        let mut answers = Answers::default();
        for (uri, answer) in join_all(asked).await {
            if let Err(why) = &answer {
                tracing::warn!(policy = uri, why, "a decision could not be evaluated");
            }
            answers.insert(uri, answer);
        }
        answers
    }

    async fn answer(&self, uri: &str, input: Box<RawValue>) -> Result<bool, String> {
        let run = ExecutePolicy {
            policy_rule_uri: uri.to_owned(),
            input_data: input,
            settings: None,
            parameters: None,
        };
        let finished = tokio::time::timeout(self.patience, self.runner.execute(run, None))
            .await
            .map_err(|_| format!("it took longer than {} ms", self.patience.as_millis()))?
            .map_err(|error| error.message().to_owned())?;
        allowed(&finished.data)
    }
}

fn input(request: &Request<'_>) -> Result<Box<RawValue>, String> {
    let input = json!({
        "action": request.action(), "resource": request.resource(), "type": request.kind(),
        "context": request.context(),
    });
    to_raw_value(&input).map_err(shown)
}

/// Only a boolean is an answer: `"false"` is true to Python, and 1 may be a count.
fn allowed(result: &RawValue) -> Result<bool, String> {
    let result: Value = serde_json::from_str(result.get()).map_err(shown)?;
    match result.get("allowed") {
        Some(Value::Bool(allowed)) => Ok(*allowed),
        Some(Value::String(text)) => {
            Err(format!("its `allowed` is the text `{}`; it must be true or false", crate::shorten(text)))
        }
        Some(other) => {
            let other = crate::shorten(&other.to_string());
            Err(format!("its `allowed` is `{other}`; it must be true or false"))
        }
        None => Err("its result has no `allowed`; it must return `{\"allowed\": true}` or false".to_owned()),
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}
