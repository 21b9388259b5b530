//! What a replica is made from, and what its calls must fit.

use crate::error::ApiError;
use crate::execution::Compiled;
use crate::functions::record;
use edict_client::records::{Function, FunctionChanges};
use serde_json::value::RawValue;
use std::sync::Arc;

/// One state of a function's code, settings and parameters. Replicas of one edition are interchangeable.
pub(super) struct Edition {
    /// Grows with each edition of a service.
    pub(super) number: u64,
    pub(super) function: Arc<Function>,
    /// The version of the changes by management commands that are in it.
    pub(super) changes_version: u64,
    pub(super) compiled: Compiled,
}

impl Edition {
    /// # Errors
    /// When the record is not valid, which only a change behind the server's back can cause.
    pub(super) fn new(
        number: u64,
        function: Arc<Function>,
        changes: FunctionChanges,
    ) -> Result<Arc<Self>, ApiError> {
        let changes_version = changes.version;
        let compiled = record::compile(&function, changes)?;
        Ok(Arc::new(Self { number, function, changes_version, compiled }))
    }

    /// Whether replicas of this edition are what `function` asks for.
    pub(super) fn serves(&self, function: &Function) -> bool {
        let own = &self.function;
        own.function_policy_data == function.function_policy_data
            && own.policy_rule_parameters == function.policy_rule_parameters
            && own.policy_rule_settings == function.policy_rule_settings
    }
}

/// The editions whose replicas take calls, the oldest first. While a function rolls from one edition to the next, any
/// replica may get a call: inputs must fit the old contract until the last old replica is gone, and outputs either one.
pub(super) struct Contract(Vec<Arc<Edition>>);

impl Contract {
    pub(super) fn new(mut editions: Vec<Arc<Edition>>) -> Self {
        editions.sort_by_key(|edition| edition.number);
        editions.dedup_by_key(|edition| edition.number);
        Self(editions)
    }

    /// # Errors
    /// 422 `input_invalid`.
    pub(super) fn check_input(&self, input: &RawValue) -> Result<(), ApiError> {
        self.0.first().map_or(Ok(()), |oldest| oldest.compiled.check_input(input))
    }

    /// # Errors
    /// 502 `policy_output_invalid`.
    pub(super) fn check_output(&self, output: &RawValue) -> Result<(), ApiError> {
        let Some((oldest, newer)) = self.0.split_first() else { return Ok(()) };
        oldest.compiled.check_output(output).or_else(|error| {
            let fits = newer.iter().any(|edition| edition.compiled.check_output(output).is_ok());
            if fits { Ok(()) } else { Err(error) }
        })
    }

    /// The policy that answers.
    pub(super) fn uri(&self) -> &str {
        self.0.first().map_or("", |oldest| &oldest.compiled.uri)
    }
}
