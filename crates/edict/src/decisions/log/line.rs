//! A decision as the spool holds it: one line of JSON.

use super::context::{Cut, record};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;
use uuid::Uuid;

/// A decision that is to be recorded.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// From [`super::Stamp`], as is `at`: entries sort by it.
    pub(crate) decision_id: Uuid,
    /// Microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) action: &'a str,
    pub(crate) resource: &'a str,
    /// The request's `type`.
    pub(crate) kind: &'a str,
    pub(crate) user_id: Option<&'a str>,
    /// As the caller sent it.
    pub(crate) context: Option<&'a RawValue>,
    /// What the engine filled in because the context has none.
    pub(crate) ip_address: Option<IpAddr>,
    /// What the engine filled in because the context has none.
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) allowed: bool,
    pub(crate) reason: &'a str,
    pub(crate) applied_policies: &'a [&'a str],
    pub(crate) errors: &'a [edict_engine::EvaluationError<'a>],
    /// How long deciding took.
    pub(crate) duration: Duration,
    pub(crate) request_id: &'a str,
}

/// What columns hold, and the rest. Names are short, since there is a line for each decision.
#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    at: i64,
    action: &'a str,
    resource: &'a str,
    r#type: &'a str,
    user: Option<&'a str>,
    allowed: bool,
    more: More<'a>,
}

/// What no column holds.
#[derive(Serialize)]
struct More<'a> {
    reason: &'a str,
    policies: &'a [&'a str],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [edict_engine::EvaluationError<'a>],
    ns: u64,
    request: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
}

/// The line for an entry, its end included.
pub(super) fn write(entry: &Entry<'_>) -> serde_json::Result<Vec<u8>> {
    let mut id = Uuid::encode_buffer();
    let (context, cut) = record(entry.context);
    let written = Written {
        id: entry.decision_id.as_hyphenated().encode_lower(&mut id),
        at: entry.at,
        action: entry.action,
        resource: entry.resource,
        r#type: entry.kind,
        user: entry.user_id,
        allowed: entry.allowed,
        more: More {
            reason: entry.reason,
            policies: entry.applied_policies,
            errors: entry.errors,
            ns: u64::try_from(entry.duration.as_nanos()).unwrap_or(u64::MAX),
            request: entry.request_id,
            ip: entry.ip_address,
            agent: entry.user_agent,
            context,
            cut,
        },
    };
    let mut line = Vec::with_capacity(512 + entry.context.map_or(0, |context| context.get().len()));
    serde_json::to_writer(&mut line, &written)?;
    // Whoever sends a context may spread it over lines; within a text of JSON, the end of a line is written `\n`.
    for byte in line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    replace_nul(&mut line);
    line.push(b'\n');
    Ok(line)
}

/// Writes U+FFFD where a text holds U+0000, which PostgreSQL keeps in no text.
fn replace_nul(json: &mut [u8]) {
    const NUL: &[u8] = b"\\u0000";
    let mut from = 0;
    while let Some(found) = json.get(from..).and_then(|rest| memchr::memmem::find(rest, NUL)) {
        let at = from + found;
        let before = json.get(..at).unwrap_or_default();
        // Behind an odd number of backslashes it is one of its own and the text `u0000`.
        let escaped = before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        if let Some(digits) = json.get_mut(at + 2..at + NUL.len()).filter(|_| !escaped) {
            digits.copy_from_slice(b"fffd");
        }
        from = at + NUL.len();
    }
}

/// A line, taken apart as far as columns need it.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    pub(super) at: i64,
    #[serde(borrow)]
    pub(super) action: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) resource: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) r#type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) allowed: bool,
    #[serde(borrow)]
    pub(super) more: &'a RawValue,
}

impl<'a> Line<'a> {
    pub(super) fn read(line: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
