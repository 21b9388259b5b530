//! Jobs: runs that are queued, survive restarts and end in exactly one final state.

use super::{Alloc, Labels, LogRecord, Object, RunFault, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Body of `POST /jobs/submit/<executor_id>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SubmitJob {
    /// For people; the policy's URI when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The policy to run.
    pub policy_rule_uri: String,
    /// Overrides the policy's parameters, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_rule_parameters: Option<Object>,
    /// Overrides the policy's settings, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_rule_settings: Option<Object>,
    /// Labels that a node of the executor must have.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub node_selector: Labels,
    /// What `eval` gets as `input_data`.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub inputs: Box<RawValue>,
    /// How long one attempt may take: seconds, or text such as `90s` or `5m`. The policy's own limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Seconds>,
    /// How many failed attempts are followed by another. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<u32>,
    /// Who chooses the executor when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alloc: Option<Alloc>,
}

/// A job as the policy system keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// Made by the server.
    pub job_id: String,
    /// For people.
    pub name: String,
    /// Where it stands.
    pub job_status: JobStatus,
    /// The executor that was named or chosen.
    pub executor_id: String,
    /// The policy that it runs.
    pub policy_rule_uri: String,
    /// What overrides the policy's parameters.
    #[serde(default)]
    pub policy_rule_parameters: Object,
    /// What overrides the policy's settings.
    #[serde(default)]
    pub policy_rule_settings: Object,
    /// Labels that the node must have.
    #[serde(default)]
    pub node_selector: Labels,
    /// The node that ran it last.
    #[serde(default)]
    pub node_id: Option<String>,
    /// What keeps the attempt that is under way from starting, as the cluster that is to run it says; null when nothing does.
    #[serde(default)]
    pub waiting_for: Option<String>,
    /// What `eval` gets.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub inputs: Box<RawValue>,
    /// Seconds that one attempt may take; null: the policy's own limit.
    #[serde(default)]
    pub timeout: Option<Seconds>,
    /// How many failed attempts are followed by another.
    #[serde(default)]
    pub backoff_limit: u32,
    /// Attempts that have started.
    #[serde(default)]
    pub attempts: u32,
    /// What `eval` returned, once it is completed.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub job_output_data: Option<Box<RawValue>>,
    /// Why the last attempt failed.
    #[serde(default)]
    pub error: Option<RunFault>,
    /// When it was accepted.
    pub created_at: String,
    /// When the last attempt started.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it reached its final state.
    #[serde(default)]
    pub finished_at: Option<String>,
}

/// One line that an attempt of a job printed or logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobLogRecord {
    /// Which attempt, 1 for the first.
    pub attempt: u32,
    /// What it said.
    #[serde(flatten)]
    pub record: LogRecord,
}

/// Where a job stands. `completed`, `failed` and `cancelled` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Accepted, waiting for a place or for its next attempt.
    Pending,
    /// An attempt is under way.
    Running,
    /// `eval` returned.
    Completed,
    /// The last attempt failed.
    Failed,
    /// Someone cancelled it.
    Cancelled,
}

impl JobStatus {
    /// The word that travels over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}
