//! What can be wrong with a policy or a request.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Why a policy was refused: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("policy `{policy}`: {}", self.listed())]
pub struct PolicyError {
    /// The policy's name, or `#3` for the third of a list when it has none.
    pub policy: String,
    /// At least one.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The field as a dotted path, `conditions.timeRange.start` for instance.
    pub field: String,
    /// What was found and what the field takes.
    pub message: String,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The field, as a dotted path; `None` when the whole is not a request.
    pub field: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl PolicyError {
    fn listed(&self) -> String {
        self.faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// The field holds what it does not take.
    pub(crate) fn takes(field: impl Into<String>, found: &Value, takes: &str) -> Self {
        Self::new(field, not_taken(found, takes))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.field, self.message)
    }
}

impl RequestError {
    pub(crate) fn new(field: &str, message: &str) -> Self {
        Self { field: Some(field.to_owned()), message: format!("`{field}` {message}") }
    }

    pub(crate) fn takes(field: &str, found: &Value, takes: &str) -> Self {
        Self::new(field, &not_taken(found, takes))
    }
}

pub(crate) fn not_taken(found: &Value, takes: &str) -> String {
    format!("is `{}`; it takes {takes}", shown_value(found))
}

/// What a caller wrote, cut to what fits into a message.
pub(crate) fn shown(text: &str) -> String {
    const CHARS: usize = 120;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A value in a message: text as it is, the rest as JSON.
pub(crate) fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

/// `did you mean …?` if one of the names is near, else all of them.
pub(crate) fn nearest(name: &str, known: &[&str]) -> String {
    // The distance takes time by the product of the lengths, and the name may be as long as a body.
    let candidates = if name.len() <= 100 { known } else { &[] };
    let near = candidates
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), *known))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match near {
        Some((_, known)) => format!("did you mean `{known}`?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}
