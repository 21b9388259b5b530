//! Policies: versioned Python code with its schemas, settings and parameters.

use super::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A policy as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Policy {
    /// `{name}:{version}-{release_tag}`; always derived, what a payload says here is ignored.
    #[serde(default)]
    pub policy_rule_uri: String,
    /// 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// For example `1.0`; the same characters as a name.
    pub version: String,
    /// For example `beta` or `stable`; the same characters as a name.
    pub release_tag: String,
    /// Anything worth knowing about the policy.
    #[serde(default)]
    pub metadata: Object,
    /// Comma-separated; a payload may also hold a list.
    #[serde(default)]
    pub tags: String,
    /// URL of an archive, an asset URI, or the source text of `function.py`.
    pub code: String,
    /// For example `python_class_v1`.
    #[serde(rename = "type", default = "default_type")]
    pub kind: String,
    /// What `eval` accepts: a template or a JSON Schema.
    #[serde(default)]
    pub policy_input_schema: Object,
    /// What `eval` returns.
    #[serde(default)]
    pub policy_output_schema: Object,
    /// What the settings may be.
    #[serde(default)]
    pub policy_settings_schema: Object,
    /// What the parameters may be.
    #[serde(default)]
    pub policy_parameters_schema: Object,
    /// The settings, unless a caller overrides them key by key.
    #[serde(default)]
    pub policy_settings: Object,
    /// The parameters, unless a caller overrides them key by key.
    #[serde(default)]
    pub policy_parameters: Object,
    /// `{name, description, schema}` of each command that `management` takes; empty allows any.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub management_commands_schema: Vec<Value>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What a run may use; what is left out has its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_limits: Option<ExecutionLimits>,
    /// Kept for records of the older system; not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub code_type: Option<Value>,
    /// Kept for records of the older system; not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub functionality_data: Option<Value>,
    /// Kept for records of the older system; not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub resource_estimates: Option<Value>,
    /// SHA-256 of the stored code in hex; null while a URL has not been reached yet.
    #[serde(default)]
    pub code_digest: Option<String>,
    /// When the record was made; set by the server.
    #[serde(default)]
    pub created_at: String,
    /// When the record last changed; set by the server.
    #[serde(default)]
    pub updated_at: String,
    /// 1, 2, …; set by the server, and what `If-Match` compares.
    #[serde(default)]
    pub revision: u64,
}

fn default_type() -> String {
    "python_class_v1".to_owned()
}

impl Policy {
    /// The record's address in the registry, from its name, version and tag.
    pub fn uri(&self) -> String {
        format!("{}:{}-{}", self.name, self.version, self.release_tag)
    }

    /// Every field that a payload may hold.
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "policy_rule_uri",
            "name",
            "version",
            "release_tag",
            "metadata",
            "tags",
            "code",
            "type",
            "policy_input_schema",
            "policy_output_schema",
            "policy_settings_schema",
            "policy_parameters_schema",
            "policy_settings",
            "policy_parameters",
            "management_commands_schema",
            "description",
            "execution_limits",
            "code_type",
            "functionality_data",
            "resource_estimates",
            "code_digest",
            "created_at",
            "updated_at",
            "revision",
        ]
    }
}

/// What one run of a policy may use. An executor's own settings cap each of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecutionLimits {
    /// Wall time of a run in milliseconds; 30000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Memory of a run in MiB; 512 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// CPU time of a run in seconds; only the wall time counts when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<u64>,
    /// Processes and threads that a run may have at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Whether a run may open network connections; true when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    /// How runs are kept apart; `process` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// How stateless runs of one policy are kept apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A process of its own per run.
    #[default]
    Process,
    /// A fresh module and a fresh instance per run in a warm process that only this policy uses.
    Instance,
}
