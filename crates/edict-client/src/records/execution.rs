//! Running a policy: requests, results, logs, the context, and what executors tell the policy system.

use super::{ExecutorStatus, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Body of `POST /executor/<id>/execute_policy`.
///
/// Inputs stay JSON text on their way to the worker, so that numbers keep every digit.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecutePolicy {
    /// The policy to run.
    pub policy_rule_uri: String,
    /// What `eval` gets as `input_data`.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input_data: Box<RawValue>,
    /// Overrides the policy's parameters, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Object>,
    /// Overrides the policy's settings, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Object>,
}

/// Body of `POST /executor/<id>/execute_mgmt_command`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Manage {
    /// The policy to manage.
    pub policy_rule_uri: String,
    /// The command, one of the policy's `management_commands_schema` if it lists any.
    pub action: String,
    /// The command's arguments.
    #[serde(default)]
    pub data: Object,
}

/// What a run gave back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Execution {
    /// What `eval` or `management` returned.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: Value,
    /// What the run printed and logged, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<LogRecord>>,
}

/// One line that a policy printed or logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogRecord {
    /// RFC 3339 in UTC.
    pub time: String,
    /// `debug`, `info`, `warning` or `error`; stdout counts as `info`, stderr as `warning`.
    pub level: String,
    /// `stdout`, `stderr`, or the name of the Python logger.
    pub source: String,
    /// The text, without the line end.
    pub message: String,
}

/// One operation on a policy's context: body of `POST /policy/<uri>/context`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum ContextOp {
    /// `{"found": bool, "value": …}`.
    Get {
        /// Which entry.
        key: String,
    },
    /// Stores a value, for `ttl_seconds` if given.
    Set {
        /// Which entry.
        key: String,
        /// Any JSON.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        value: Value,
        /// Seconds until the entry disappears.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<f64>,
    },
    /// Removes an entry: `{"found": bool}`.
    Delete {
        /// Which entry.
        key: String,
    },
    /// Removes an entry and returns it: `{"found": bool, "value": …}`.
    Pop {
        /// Which entry.
        key: String,
    },
    /// Stores a value unless there is one; returns what is there then.
    SetDefault {
        /// Which entry.
        key: String,
        /// Any JSON.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        value: Value,
    },
    /// Adds to a number (0 if there is none) and returns the sum.
    Incr {
        /// Which entry.
        key: String,
        /// An integer or a float.
        #[serde(default = "one")]
        #[cfg_attr(feature = "openapi", schema(value_type = f64))]
        by: serde_json::Number,
    },
    /// Every key, sorted.
    Keys,
    /// Every entry as an object.
    Items,
    /// How many entries there are.
    Len,
    /// Removes every entry.
    Clear,
    /// Stores several entries at once.
    Update {
        /// Key to value.
        entries: Object,
    },
}

fn one() -> serde_json::Number {
    1.into()
}

/// What management commands changed of a policy on one executor: applied over the policy's own values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyState {
    /// Changed or added keys of the settings.
    #[serde(default)]
    pub settings: Object,
    /// Changed or added keys of the parameters.
    #[serde(default)]
    pub parameters: Object,
    /// Keys of the settings that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed_settings: BTreeSet<String>,
    /// Keys of the parameters that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed_parameters: BTreeSet<String>,
}

impl PolicyState {
    /// Takes in a later change.
    pub fn extend(&mut self, change: Self) {
        let Self { settings, parameters, removed_settings, removed_parameters } = change;
        extend((&mut self.settings, &mut self.removed_settings), settings, removed_settings);
        extend((&mut self.parameters, &mut self.removed_parameters), parameters, removed_parameters);
    }
}

fn extend((values, gone): (&mut Object, &mut BTreeSet<String>), changed: Object, removed: BTreeSet<String>) {
    gone.retain(|key| !changed.contains_key(key));
    values.retain(|key, _| !removed.contains(key));
    values.extend(changed);
    gone.extend(removed);
}

/// What an executor tells the policy system every few seconds; the first one registers it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Differs from process to process, so that two executors with one id are noticed.
    pub instance_id: String,
    /// Where the policy system reaches the executor; the record's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_host_uri: Option<String>,
    /// What the policy system presents to the executor; never shown again.
    pub executor_token: String,
    /// `healthy` or `busy`.
    pub executor_status: ExecutorStatus,
    /// Merged into the record when the executor registers.
    #[serde(default)]
    pub executor_metadata: Object,
    /// What the machine has.
    #[serde(default)]
    pub executor_hardware_info: Object,
    /// How much of its room for runs is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_load: Option<Load>,
}

/// How much of an executor's room for runs is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Runs that it carries out at the same time at most.
    pub max_runs: u64,
    /// Runs that it is carrying out.
    pub runs_active: u64,
    /// Runs that wait for a free place.
    pub runs_waiting: u64,
}
