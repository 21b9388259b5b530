//! The audit trail of actions.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An action in the audit trail, as it is now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditLog {
    /// The `auditId` of the reply to whoever asked for the action.
    pub id: String,
    /// For example `restart_pod`; what was asked for, also when there is no such action.
    pub action_type: Option<String>,
    /// Where it stands.
    pub status: AuditStatus,
    /// The target's namespace.
    pub namespace: Option<String>,
    /// `pod` or `deployment`.
    pub resource_type: Option<String>,
    /// The target's name.
    pub resource_name: Option<String>,
    /// As they were sent.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub action_params: Option<Box<RawValue>>,
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// What the policy engine said; what came with the request where it was not asked.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub policy_decision: Option<Box<RawValue>>,
    /// Milliseconds that carrying it out took.
    pub execution_duration: Option<i64>,
    /// Why it failed or was rejected: one of the codes of error replies.
    pub error_code: Option<String>,
    /// The same for people.
    pub error_message: Option<String>,
    /// What it did.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub result: Option<Box<RawValue>>,
    /// As it was presented.
    pub signature: Option<String>,
    /// Where the request came from.
    pub ip_address: Option<String>,
    /// Whether the cluster was only asked, not changed.
    pub dry_run: bool,
    /// When it was asked for.
    pub created_at: String,
    /// When it ended; null as long as it has not.
    pub completed_at: Option<String>,
    /// Its entries in the trail, the oldest first; only where one action is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<AuditEntry>,
}

/// Where an action stands. `completed`, `failed` and `rejected` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditStatus {
    /// Being checked.
    Pending,
    /// Being carried out.
    InProgress,
    /// Done.
    Completed,
    /// It was tried; `errorMessage` says what is known of it.
    Failed,
    /// Refused; nothing was changed.
    Rejected,
}

impl AuditStatus {
    /// The word that travels over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    /// The status with this name.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Pending, Self::InProgress, Self::Completed, Self::Failed, Self::Rejected]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// One entry of the audit trail: what the chain is made of, column by column.
///
/// Its hash is the SHA-256 of its own compact JSON text without the field `hash`: the order of the fields is part of the
/// format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// 1 for the first entry, without gaps.
    pub seq: i64,
    /// Microseconds since 1970 (UTC), by the database's clock on PostgreSQL.
    pub at: i64,
    /// `hash` of the entry before; 64 zeros for the first.
    pub prev_hash: String,
    /// The action's first, second or third entry; 0 for an entry that tells of a trim.
    pub step: i64,
    /// The action.
    pub action_id: String,
    /// Where the action stands from here on; `trimmed` for an entry that tells of a trim.
    pub status: String,
    /// The server that wrote it.
    pub instance: String,
    /// In the first entry: what was asked for.
    pub action_type: Option<String>,
    /// In the first entry.
    pub namespace: Option<String>,
    /// In the first entry.
    pub resource_type: Option<String>,
    /// In the first entry.
    pub resource_name: Option<String>,
    /// In the first entry: JSON, as text.
    pub action_params: Option<String>,
    /// In the first entry.
    pub requested_by: Option<String>,
    /// In the first entry what came with the request, in the last one what the policy engine said: JSON, as text.
    pub policy_decision: Option<String>,
    /// In the first entry.
    pub signature: Option<String>,
    /// In the first entry.
    pub ip_address: Option<String>,
    /// In the first entry.
    pub dry_run: Option<bool>,
    /// In `in_progress`: the rate limit that it counts for; null when it counts for none.
    pub kind: Option<String>,
    /// In `in_progress`: how the target was before. In `trimmed`: through which entry the trail was trimmed, the hash of
    /// that one, and how many entries there were. JSON, as text.
    pub evidence: Option<String>,
    /// In the last entry of an action that failed or was rejected.
    pub error_code: Option<String>,
    /// In the last entry of an action that failed or was rejected.
    pub error_message: Option<String>,
    /// In the last entry: JSON, as text.
    pub result: Option<String>,
    /// In the last entry.
    pub execution_ms: Option<i64>,
    /// SHA-256, 64 hexadecimal digits.
    pub hash: String,
}

/// What a look at the whole trail found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditVerdict {
    /// Whether nothing was changed, removed, added or moved.
    pub intact: bool,
    /// Entries that were looked at.
    pub entries: u64,
    /// The first of them; 0 when there is none.
    pub first: i64,
    /// The last entry; keep it elsewhere to notice a trail that was cut or written anew.
    pub head: AuditHead,
    /// What is wrong, at most a hundred faults.
    pub faults: Vec<AuditFault>,
}

/// An end of the audit trail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditHead {
    /// Number of the last entry; 0 when there is none.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
}

/// Something that is wrong with the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditFault {
    /// The entry.
    pub seq: i64,
    /// Its action, if the entry is there.
    pub action_id: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

/// Figures of the actions of a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditStatistics {
    /// Actions asked for from here on.
    pub since: String,
    /// Actions asked for before.
    pub until: String,
    /// Actions, dry runs included.
    pub total: u64,
    /// Of these, dry runs.
    pub dry_runs: u64,
    /// Actions by status, the most frequent first.
    pub by_status: Vec<AuditCount>,
    /// Actions by `actionType`: the twenty most frequent.
    pub by_action_type: Vec<AuditCount>,
    /// Actions by namespace: the twenty most frequent.
    pub by_namespace: Vec<AuditCount>,
    /// Actions by `requestedBy`: the twenty most frequent.
    pub by_requester: Vec<AuditCount>,
    /// Completed ones among the completed and failed ones; null when there are none.
    pub success_ratio: Option<f64>,
    /// Those that the policy engine denied (`action_not_allowed`) among all; null when there are none.
    pub denial_rate: Option<f64>,
    /// Mean of `executionDuration` in milliseconds; null when nothing was carried out.
    pub average_execution_duration: Option<f64>,
    /// The `executionDuration` that 95 of 100 do not exceed; null when nothing was carried out.
    pub p95_execution_duration: Option<i64>,
    /// The trail's last entry.
    pub head: AuditHead,
}

/// How often a value occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditCount {
    /// The value; null for actions that have none.
    pub value: Option<String>,
    /// Actions that have it.
    pub count: u64,
}
