//! The log of decisions.

use super::DecisionError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A decision as it was recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoggedDecision {
    /// The decision's id, as it was replied. Ids sort by time.
    pub decision_id: String,
    /// When it was made, to the microsecond.
    pub created_at: String,
    /// What was to be done.
    pub action: String,
    /// What it was to be done to.
    pub resource: String,
    /// Which kind of request it was.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who asked.
    pub user_id: Option<String>,
    /// The role of who asked.
    pub role: Option<String>,
    /// Further roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The address that conditions saw: the context's, else the caller's.
    pub ip_address: Option<String>,
    /// The program that conditions saw: the context's, else the caller's.
    pub user_agent: Option<String>,
    /// The context as it was sent.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub context: Box<RawValue>,
    /// Of a context of more than 64 KiB, what is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_cut: Option<ContextCut>,
    /// Whether the action was allowed.
    pub allowed: bool,
    /// One sentence: which decision policy decided, or that none allows it.
    pub reason: String,
    /// Names of the decision policies that applied, the highest priority first.
    pub applied_policies: Vec<String>,
    /// What could not be evaluated; left out when everything could.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<DecisionError>,
    /// How long deciding took, in milliseconds.
    pub duration_ms: f64,
    /// The request's id, which is in the server's log, too.
    pub request_id: String,
}

/// What tells that a recorded context is not whole: fields that did not fit are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContextCut {
    /// Bytes of the context as it was sent.
    pub bytes: u64,
    /// SHA-256 of the context as it was sent, in hexadecimal.
    pub sha256: String,
    /// Fields that were left out; the first 20.
    pub omitted: Vec<String>,
}

/// Decisions from the log, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoggedDecisions {
    /// The decisions.
    pub logs: Vec<LoggedDecision>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// What `after` must be for the next page; left out on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Decisions that this server has recorded but could not show in time; left out when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
}
