//! The policy engine: requests, decisions, and the decision policies behind them. Field names are camelCase, as its own
//! API has them.

use super::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked of the policy engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// What is to be done, `restart_pod` for instance.
    pub action: String,
    /// What it is to be done to, `pod:api-7` for instance.
    pub resource: String,
    /// Which kind of request it is, `self_healing` for instance.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who asks, and under which circumstances: `userId`, `role`, `roles`, `ipAddress`, `userAgent`, `metadata`, and
    /// whatever else conditions ask for. Where `ipAddress` and `userAgent` are missing, the caller's own are taken.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub context: Object,
}

/// The answer to a [`DecisionRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Whether the action may be done.
    pub allowed: bool,
    /// One sentence: which decision policy decided, or that none allows it.
    pub reason: String,
    /// Names of the decision policies that applied, the highest priority first.
    pub applied_policies: Vec<String>,
    /// Finds the decision in the log of decisions.
    pub decision_id: String,
    /// What could not be evaluated; left out when everything could.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<DecisionError>,
}

/// A condition that could not be evaluated: a deny with one denies, an allow does not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecisionError {
    /// The decision policy's name.
    pub policy: String,
    /// The condition, `ipRange` for instance.
    pub field: String,
    /// Why, and what is missing.
    pub message: String,
}

/// A decision, and what every decision policy had to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainedDecision {
    /// The decision itself.
    #[serde(flatten)]
    pub decision: Decision,
    /// Every decision policy: those that came furthest first, then by priority and name.
    pub considered: Vec<ConsideredPolicy>,
}

/// Why a decision policy did or did not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsideredPolicy {
    /// Its name.
    pub policy: String,
    /// What it does when it applies.
    pub effect: Effect,
    /// Its priority.
    pub priority: u16,
    /// Whether it applied.
    pub applied: bool,
    /// The check at which it ended: `applied`, `not_evaluated`, `conditions`, `resource`, `action`, `type`, `inactive`.
    pub stage: String,
    /// One sentence.
    pub why: String,
}

/// What a decision policy does when it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The request is allowed unless a deny applies.
    Allow,
    /// The request is denied, whatever else applies.
    Deny,
}

/// A rule of the policy engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DecisionPolicy {
    /// Made by the server; of a policy from the folder, its name.
    #[serde(default)]
    pub id: String,
    /// Unique; 1 to 200 characters.
    pub name: String,
    /// For people; part of the reason when this policy decides.
    #[serde(default)]
    pub description: String,
    /// The type of request it is about; `*` stands for every type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it does when it applies.
    pub effect: Effect,
    /// 0 to 1000: orders the reason and lists, never the outcome.
    #[serde(default)]
    pub priority: u16,
    /// What must hold beside.
    #[serde(default)]
    pub conditions: Object,
    /// Patterns with `*` and `?`; at least one.
    pub actions: Vec<String>,
    /// Patterns with `*` and `?`; at least one.
    pub resources: Vec<String>,
    /// An inactive policy never applies.
    #[serde(default = "yes")]
    pub is_active: bool,
    /// Where it is kept; set by the server.
    #[serde(default)]
    pub source: PolicySource,
    /// The file that holds it, relative to the folder; only of a policy from the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// When the record was made; set by the server. A policy from the folder has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When the record last changed; set by the server. A policy from the folder has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// 1, 2, …; set by the server, and what `If-Match` compares.
    #[serde(default)]
    pub revision: u64,
    /// What this version cannot read of a stored policy, which makes a deny deny and an allow not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a decision policy is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum PolicySource {
    /// In the database; the API changes it.
    #[default]
    Api,
    /// In the watched folder; the API only reads it.
    Folder,
}

fn yes() -> bool {
    true
}

impl DecisionPolicy {
    /// Every field that a payload may hold.
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "id",
            "name",
            "description",
            "type",
            "effect",
            "priority",
            "conditions",
            "actions",
            "resources",
            "isActive",
            "source",
            "file",
            "createdAt",
            "updatedAt",
            "revision",
            "error",
        ]
    }
}

/// Body of `POST /api/v1/policy/evaluate/batch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionBatch {
    /// 1 to 1000.
    pub requests: Vec<DecisionRequest>,
}

/// The answer to a [`DecisionBatch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchDecisions {
    /// A [`Decision`] per request, in their order; in the place of a request that is refused, the error that it alone
    /// would have been answered with.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Decision>))]
    pub decisions: Vec<Value>,
}

/// Body of `POST /api/v1/policy/import`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportDecisionPolicies {
    /// All are stored, or none.
    pub policies: Vec<DecisionPolicy>,
}

/// The answer to [`ImportDecisionPolicies`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportedDecisionPolicies {
    /// How many are new.
    pub created: u64,
    /// How many took the place of one with their name.
    pub replaced: u64,
    /// What the caller should know although the call succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A page of decision policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DecisionPolicies {
    /// Those of the database in the order that was asked for, then those of the folder by name.
    pub policies: Vec<DecisionPolicy>,
    /// Whether more follow.
    pub has_more: bool,
}

/// A decision policy that was created or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredDecisionPolicy {
    /// The record as it is now.
    #[serde(flatten)]
    pub policy: DecisionPolicy,
    /// What the caller should know although the call succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// State of the watched folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DecisionFolder {
    /// Whether there is a folder to watch (`decisions_dir`).
    pub watched: bool,
    /// Whether what is in force is what the folder holds.
    pub ok: bool,
    /// What is wrong with the folder while its last good state is in force: file, line, field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many policies of the folder are in force.
    pub policies: u64,
    /// Since when what is in force is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_at: Option<String>,
}
