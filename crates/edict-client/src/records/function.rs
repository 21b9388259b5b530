//! Functions: policies deployed as long-lived services.

use super::{Alloc, Labels, LogRecord, Object, PolicyState, RunFault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Body of `POST /function/deployments/create/<executor_id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeployFunction {
    /// 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The policy that it serves, as it is now: later changes of the policy reach the function when it is updated.
    pub policy_rule_uri: String,
    /// Overrides the policy's parameters, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_rule_parameters: Option<Object>,
    /// Overrides the policy's settings, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_rule_settings: Option<Object>,
    /// Copies to start with. The allocator's choice when left out and it makes one, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// How the number of copies follows the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Labels that a node of the executor must have.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub node_selector: Labels,
    /// Whatever the owner wants to keep with it.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub function_metadata: Object,
    /// For finding it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub function_tags: Vec<String>,
    /// Who chooses the executor when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alloc: Option<Alloc>,
}

impl DeployFunction {
    /// Every field that a payload may hold.
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "name",
            "policy_rule_uri",
            "policy_rule_parameters",
            "policy_rule_settings",
            "replicas",
            "autoscaling",
            "node_selector",
            "function_metadata",
            "function_tags",
            "alloc",
        ]
    }
}

/// How the number of replicas follows the load: the rule of Kubernetes' horizontal pod autoscaler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Autoscaling {
    /// Whether it does. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Never fewer copies; at least 1. Default 1.
    #[serde(default = "one")]
    pub min_replicas: u32,
    /// Never more copies; at least `min_replicas`.
    pub max_replicas: u32,
    /// CPU that a copy should use on average, in percent of one core; on Kubernetes, of what its pod asks for. Default 80.
    #[serde(default = "eighty")]
    pub target_cpu_utilization_percentage: u32,
    /// Grow only to what was wanted throughout the last so many seconds. Default 0.
    #[serde(default)]
    pub scale_up_stabilization_seconds: u32,
    /// Shrink only to the most that was wanted in the last so many seconds. Default 300.
    #[serde(default = "three_hundred")]
    pub scale_down_stabilization_seconds: u32,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn eighty() -> u32 {
    80
}

fn three_hundred() -> u32 {
    300
}

/// A function as the policy system keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Function {
    /// Its name.
    pub function_id: String,
    /// The executor that runs its replicas.
    pub function_executor_id: String,
    /// Where that executor is reached.
    #[serde(default)]
    pub function_executor_uri: Option<String>,
    /// Whatever the owner keeps with it.
    #[serde(default)]
    pub function_metadata: Object,
    /// For finding it.
    #[serde(default)]
    pub function_tags: Vec<String>,
    /// The policy that it serves.
    pub function_policy_rule_uri: String,
    /// The policy's record when the function was deployed or last updated: what its replicas run.
    #[serde(default)]
    pub function_policy_data: Object,
    /// What overrides the policy's parameters.
    #[serde(default)]
    pub policy_rule_parameters: Object,
    /// What overrides the policy's settings.
    #[serde(default)]
    pub policy_rule_settings: Object,
    /// Copies that are wanted, when autoscaling does not say otherwise.
    pub replicas: u32,
    /// How the number of copies follows the load.
    #[serde(default)]
    pub autoscaling: Option<Autoscaling>,
    /// Labels that the node must have.
    #[serde(default)]
    pub node_selector: Labels,
    /// What its replicas are doing; set by its executor.
    #[serde(default)]
    pub function_status: FunctionStatus,
    /// When it was deployed; set by the server.
    #[serde(default)]
    pub created_at: String,
    /// When it last changed; set by the server.
    #[serde(default)]
    pub updated_at: String,
    /// 1, 2, …; set by the server, and what `If-Match` compares.
    #[serde(default)]
    pub revision: u64,
}

impl Function {
    /// Every field of a record.
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "function_id",
            "function_executor_id",
            "function_executor_uri",
            "function_metadata",
            "function_tags",
            "function_policy_rule_uri",
            "function_policy_data",
            "policy_rule_parameters",
            "policy_rule_settings",
            "replicas",
            "autoscaling",
            "node_selector",
            "function_status",
            "created_at",
            "updated_at",
            "revision",
        ]
    }
}

/// What a function's replicas are doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FunctionStatus {
    /// In one word.
    pub state: FunctionState,
    /// The revision that every ready replica has; 0 before the first.
    #[serde(default)]
    pub revision: u64,
    /// The revision that this status tells about: one that its executor has not seen yet is not told about at all.
    #[serde(default)]
    pub observed_revision: u64,
    /// Copies that are wanted now.
    #[serde(default)]
    pub desired: u32,
    /// Copies that take calls.
    #[serde(default)]
    pub ready: u32,
    /// Copies that ended by themselves and were replaced, since the executor started.
    #[serde(default)]
    pub restarts: u64,
    /// Average CPU of a copy in percent of one core, when it is measured.
    #[serde(default)]
    pub cpu_utilization_percentage: Option<u32>,
    /// Why copies do not start, or end.
    #[serde(default)]
    pub error: Option<RunFault>,
}

/// A function's state in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum FunctionState {
    /// Its executor has not started copies yet.
    #[default]
    Pending,
    /// As many copies as wanted take calls, all of the current revision.
    Ready,
    /// Copies are being started, replaced or stopped; calls are taken.
    Updating,
    /// Fewer copies than wanted take calls, because some fail.
    Degraded,
    /// No copy takes calls, because they fail.
    Failed,
}

impl FunctionState {
    /// The word that travels over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Updating => "updating",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// Body of `POST /function/management/<name>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ManageFunction {
    /// The command, one of the policy's `management_commands_schema` if it lists any.
    pub action: String,
    /// The command's arguments.
    #[serde(default)]
    pub data: Object,
}

/// What one replica answered to a management command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaAnswer {
    /// Which replica.
    pub replica: u64,
    /// What `management` returned; null when it failed.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: Value,
    /// Why it failed; such a replica is replaced by one with the changed parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunFault>,
}

/// One line that a replica printed or logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FunctionLog {
    /// Which replica.
    pub replica: u64,
    /// The line.
    #[serde(flatten)]
    pub record: LogRecord,
}

/// A function that an executor is to run: an entry of `GET /executor/<id>/functions`, enough to see what changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssignedFunction {
    /// Its name.
    pub function_id: String,
    /// Tells a function from one that had its name before.
    pub created_at: String,
    /// The record's revision.
    pub revision: u64,
    /// The version of what management commands changed.
    pub changes_version: u64,
}

/// What management commands changed of a function: applied over its settings and parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FunctionChanges {
    /// Grows with each change; 0 before the first.
    pub version: u64,
    /// The changes, all of them together.
    #[serde(flatten)]
    pub changes: PolicyState,
}

/// Reply of `POST /function/<function_id>/token`: what a replica in a pod presents to the policy system.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FunctionToken {
    /// Good for reading the function and its code, and for its context; until the function is removed.
    pub token: String,
}

/// What a replica in a pod was made from: reply of its `GET /state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaState {
    /// Tells apart what the function's record asks for.
    pub edition: String,
    /// The version of the changes by management commands that are in it.
    pub changes_version: u64,
}

/// What a replica in a pod has been told since it was made: body of its `PUT /state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmChanges {
    /// The version of the changes by management commands that it has now.
    pub changes_version: u64,
}

/// What a replica in a pod answered to a management command: reply of its `POST /manage`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ManagedReplica {
    /// What `management` returned.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub result: Box<RawValue>,
    /// `self.settings` after it, when it changed them.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub settings: Option<Box<RawValue>>,
    /// `self.parameters` after it, when it changed them.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub parameters: Option<Box<RawValue>>,
}
