//! `edict decide --cases`: requests with the decisions that are expected of them.

use super::super::failure::Failure;
use super::super::output::Output;
use super::local::{compile, policies, stage};
use crate::decisions::folder::files;
use edict_client::records::Object;
use edict_engine::{Answers, Policy, PolicySet, Request, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    /// The time at which its cases are decided, unless they name another; the present when left out.
    #[serde(default, deserialize_with = "time")]
    now: Option<Timestamp>,
    /// Policies beside those of `--policies`.
    #[serde(default)]
    policies: Vec<Object>,
    cases: Vec<Case>,
}

/// What is expected; what is left out is not compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: Value,
    #[serde(default, deserialize_with = "time")]
    now: Option<Timestamp>,
    /// What Python policies answer, by their URI: true, false, or a text that says why they could not.
    #[serde(default)]
    answers: BTreeMap<String, Value>,
    allowed: bool,
    reason: Option<String>,
    applied: Option<Vec<String>>,
    /// `policy, field: message` each.
    errors: Option<Vec<String>>,
    /// The Python policies that must be asked.
    questions: Option<Vec<String>>,
    /// `policy, stage: why` each, of those that it names.
    #[serde(default)]
    considered: Vec<String>,
}

/// How a case went.
#[derive(Serialize)]
struct Outcome {
    file: String,
    case: String,
    passed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    field: &'static str,
    expected: Value,
    found: Value,
}

/// Checks all cases and shows those that failed.
///
/// # Errors
/// When files cannot be read, or a case fails.
pub(super) fn check(path: &Path, beside: Option<&Path>, out: &mut Output<'_>) -> Result<(), Failure> {
    let shared = beside.map(policies).transpose()?.unwrap_or_default();
    let mut outcomes = Vec::new();
    let unusable = |fault: String| Failure::failed(format!("`{}`: {fault}", path.display()));
    for (file, text) in files::texts(path).map_err(unusable)? {
        let unusable = |fault: String| Failure::failed(format!("`{file}`: {fault}"));
        let cases: Cases = serde_saphyr::from_str(&text).map_err(|error| {
            unusable(error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter))
        })?;
        let mut all = shared.clone();
        for policy in cases.policies {
            all.push(
                Policy::from_value(&Value::Object(policy)).map_err(|error| unusable(error.to_string()))?,
            );
        }
        let set = compile(all).map_err(|failure| unusable(failure.message))?;
        for case in cases.cases {
            let now = case.now.or(cases.now).unwrap_or_else(Timestamp::now);
            let differences = case.differences(&set, now);
            outcomes.push(Outcome {
                file: file.clone(),
                case: case.name,
                passed: differences.is_empty(),
                differences,
            });
        }
    }
    show(&outcomes, out)?;
    match outcomes.iter().filter(|outcome| !outcome.passed).count() {
        0 if outcomes.is_empty() => Err(unusable("there are no cases in it".to_owned())),
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{failed} of {} cases failed", outcomes.len()))),
    }
}

fn show(outcomes: &[Outcome], out: &mut Output<'_>) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(outcomes);
    }
    for Outcome { file, case, passed, differences } in outcomes {
        out.line(&format!("{} {file}: {case}", if *passed { "ok    " } else { "FAILED" }))?;
        for Difference { field, expected, found } in differences {
            out.line(&format!("         {field}"))?;
            out.line(&format!("           - expected {expected}"))?;
            out.line(&format!("           + found    {found}"))?;
        }
    }
    Ok(())
}

impl Case {
    fn differences(&self, set: &PolicySet, now: Timestamp) -> Vec<Difference> {
        let differs = |field, expected: Value, found: Value| Difference { field, expected, found };
        let text = self.request.to_string();
        let request = match Request::from_json(text.as_bytes()) {
            Ok(request) => request,
            Err(error) => {
                return vec![differs("request", json!("one that can be decided"), json!(error.to_string()))];
            }
        };
        let mut answers = Answers::default();
        for (uri, answer) in &self.answers {
            let answer = match answer {
                Value::Bool(allowed) => Ok(*allowed),
                Value::String(why) => Err(why.clone()),
                other => return vec![differs("answers", json!("true, false or a text"), other.clone())],
            };
            answers.insert(uri, answer);
        }
        let explanation = set.explain(&request, now, &answers);
        let decision = &explanation.decision;
        let errors = decision
            .errors
            .iter()
            .map(|error| format!("{}, {}: {}", error.policy, error.field, error.message));
        let compared = [
            ("allowed", Some(json!(self.allowed)), json!(decision.allowed)),
            ("reason", self.reason.as_ref().map(|reason| json!(reason)), json!(decision.reason)),
            (
                "applied",
                self.applied.as_ref().map(|applied| json!(applied)),
                json!(decision.applied_policies),
            ),
            ("errors", self.errors.as_ref().map(|errors| json!(errors)), json!(errors.collect::<Vec<_>>())),
            (
                "questions",
                self.questions.as_ref().map(|uris| json!(uris)),
                json!(set.questions(&request, now)),
            ),
        ];
        let mut differences: Vec<_> = compared
            .into_iter()
            .filter_map(|(field, expected, found)| {
                Some((field, expected.filter(|expected| *expected != found)?, found))
            })
            .map(|(field, expected, found)| differs(field, expected, found))
            .collect();
        let considered: Vec<String> = explanation
            .considered
            .iter()
            .map(|policy| format!("{}, {}: {}", policy.policy, stage(policy), policy.why))
            .collect();
        let missing = self.considered.iter().filter(|expected| !considered.contains(expected));
        differences.extend(missing.map(|expected| {
            let name = expected.split(", ").next().unwrap_or_default();
            let found = considered.iter().find(|line| line.split(", ").next() == Some(name));
            differs("considered", json!(expected), json!(found))
        }));
        differences
    }
}

/// An instant, such as `2026-11-22T08:00:00Z`.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| {
        de::Error::custom(format!(
            "`{}` is not an instant, such as `2026-11-22T08:00:00Z`",
            crate::shorten(&text)
        ))
    })
}
