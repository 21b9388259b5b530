//! A policy in the form that runs need: schemas compiled, settings and parameters merged and encoded once.

use crate::error::{ApiError, Code};
use crate::policies::record::faults_json;
use edict_client::records::{ExecutionLimits, Object, Policy, PolicyState};
use edict_schema::{CommandFault, Commands, Fault, Schema};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// A policy, ready to run.
pub(crate) struct Compiled {
    pub(crate) uri: String,
    /// Tells its revisions apart, and those of a policy that was registered anew under the same URI.
    pub(crate) edition: String,
    /// None while the code's URL has not been reached yet.
    pub(crate) digest: Option<String>,
    pub(crate) limits: ExecutionLimits,
    pub(crate) settings: Values,
    pub(crate) parameters: Values,
    input: Schema,
    output: Schema,
    commands: Commands,
    /// The code unpacked and its requirements installed; filled by the first run.
    pub(crate) prepared: OnceCell<Arc<edict_runtime::Policy>>,
}

/// Settings or parameters: what runs get unless a caller overrides some.
pub(crate) struct Values {
    what: &'static str,
    code: Code,
    schema: Schema,
    merged: Object,
    encoded: Box<RawValue>,
    faults: Vec<Fault>,
}

impl Compiled {
    /// # Errors
    /// When the stored record is not valid, which only a change behind the registry's back can cause.
    pub(crate) fn new(policy: Policy, state: PolicyState) -> Result<Self, ApiError> {
        let settings = Values::new(
            ("settings", Code::SettingsInvalid),
            &policy.policy_settings_schema,
            policy.policy_settings,
            (state.settings, &state.removed_settings),
        )?;
        let parameters = Values::new(
            ("parameters", Code::ParametersInvalid),
            &policy.policy_parameters_schema,
            policy.policy_parameters,
            (state.parameters, &state.removed_parameters),
        )?;
        let commands = Commands::compile(&Value::Array(policy.management_commands_schema))
            .map_err(|_| ApiError::internal("a stored list of management commands is not valid"))?;
        Ok(Self {
            uri: policy.policy_rule_uri,
            edition: format!("{}@{}", policy.revision, policy.created_at),
            digest: policy.code_digest,
            limits: policy.execution_limits.unwrap_or_default(),
            settings,
            parameters,
            input: compile(&policy.policy_input_schema)?,
            output: compile(&policy.policy_output_schema)?,
            commands,
            prepared: OnceCell::new(),
        })
    }

    /// # Errors
    /// 422 `input_invalid` with a JSON pointer per fault.
    pub(crate) fn check_input(&self, input: &RawValue) -> Result<(), ApiError> {
        if self.input.is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(input.get())
            .map_err(|error| ApiError::new(Code::InvalidField, format!("field `input_data`: {error}")))?;
        self.input
            .validate(&value)
            .map_err(|faults| unfit(Code::InputInvalid, "the input", &self.uri, &faults))
    }

    /// # Errors
    /// 502 `policy_output_invalid` with a JSON pointer per fault.
    pub(crate) fn check_output(&self, output: &RawValue) -> Result<(), ApiError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(output.get()).map_err(|error| {
            ApiError::new(
                Code::PolicyOutputInvalid,
                format!("what the policy returned cannot be checked: {error}"),
            )
        })?;
        self.output.validate(&value).map_err(|faults| {
            unfit(Code::PolicyOutputInvalid, "what the policy returned", &self.uri, &faults)
        })
    }

    /// # Errors
    /// 422 `command_invalid` when there is no such command, or its arguments do not fit.
    pub(crate) fn check_command(&self, action: &str, data: &Value) -> Result<(), ApiError> {
        self.commands.validate(action, data).map_err(|fault| match fault {
            CommandFault::UnknownAction { message } => ApiError::new(Code::CommandInvalid, message),
            CommandFault::Data(faults) => {
                unfit(Code::CommandInvalid, &format!("the data of command `{action}`"), &self.uri, &faults)
            }
        })
    }
}

impl Values {
    fn new(
        (what, code): (&'static str, Code),
        schema: &Object,
        own: Object,
        (changed, removed): (Object, &BTreeSet<String>),
    ) -> Result<Self, ApiError> {
        let schema = compile(schema)?;
        let mut merged = own;
        merged.retain(|key, _| !removed.contains(key));
        merged.extend(changed);
        let faults = schema.validate(&Value::Object(merged.clone())).err().unwrap_or_default();
        let encoded = to_raw_value(&merged).map_err(ApiError::internal)?;
        Ok(Self { what, code, schema, merged, encoded, faults })
    }

    /// The values for a run: the caller's override the policy's own, key by key, at the top level.
    ///
    /// # Errors
    /// 422 when the result does not fit the schema.
    pub(crate) fn with(&self, overrides: Option<&Object>, uri: &str) -> Result<Box<RawValue>, ApiError> {
        let what = format!("field `{}`", self.what);
        let Some(overrides) = overrides.filter(|overrides| !overrides.is_empty()) else {
            if !self.faults.is_empty() {
                return Err(unfit(self.code, &what, uri, &self.faults));
            }
            return Ok(self.encoded.clone());
        };
        let mut merged = self.merged.clone();
        merged.extend(overrides.clone());
        let merged = Value::Object(merged);
        self.schema.validate(&merged).map_err(|faults| unfit(self.code, &what, uri, &faults))?;
        to_raw_value(&merged).map_err(ApiError::internal)
    }

    /// What differs in `after` from the values that a run without overrides gets: what is new, and the keys that are
    /// gone.
    ///
    /// # Errors
    /// 502 when the policy changed them to something that is no object or does not fit the schema.
    pub(crate) fn changes(
        &self,
        after: &RawValue,
        uri: &str,
    ) -> Result<(Object, BTreeSet<String>), ApiError> {
        let after: Value = serde_json::from_str(after.get()).map_err(ApiError::internal)?;
        let what = format!("what the command made of the policy's {}", self.what);
        if let Err(faults) = self.schema.validate(&after) {
            return Err(unfit(Code::PolicyOutputInvalid, &what, uri, &faults));
        }
        let Value::Object(after) = after else {
            return Err(ApiError::new(Code::PolicyOutputInvalid, format!("{what} is no object")));
        };
        let gone = self.merged.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
        Ok((after.into_iter().filter(|(key, value)| self.merged.get(key) != Some(value)).collect(), gone))
    }
}

fn compile(schema: &Object) -> Result<Schema, ApiError> {
    Schema::compile(&Value::Object(schema.clone()))
        .map_err(|_| ApiError::internal("a stored schema is not valid"))
}

/// The error for what does not fit a schema of the record `uri`.
pub(crate) fn unfit(code: Code, what: &str, uri: &str, faults: &[Fault]) -> ApiError {
    let first = faults.first().map(|fault| format!("at `{}`: {}", fault.pointer, fault.message));
    let message = format!("{what} does not fit the schema of `{uri}` {}", first.unwrap_or_default());
    ApiError::new(code, message).details(serde_json::json!({"faults": faults_json(faults)}))
}
