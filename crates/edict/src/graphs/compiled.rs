//! A graph in the form that runs need.

use super::plan::Plan;
use crate::error::{ApiError, Code};
use crate::execution::unfit;
use edict_client::records::{Graph, Object};
use edict_schema::Schema;
use serde_json::Value;
use serde_json::value::RawValue;

/// A graph, ready to run.
pub(super) struct Compiled {
    pub(super) uri: String,
    pub(super) revision: u64,
    pub(super) plan: Plan,
    input: Schema,
    output: Schema,
}

impl Compiled {
    /// # Errors
    /// When the stored record is not valid, which only a change behind the registry's back can cause.
    pub(super) fn new(graph: Graph) -> Result<Self, ApiError> {
        let plan = Plan::new(&graph.graph_function_ids, &graph.graph_connection_data)
            .map_err(|fault| ApiError::internal(fault.message))?;
        Ok(Self {
            uri: graph.graph_uri,
            revision: graph.revision,
            plan,
            input: compile(graph.graph_input_schema)?,
            output: compile(graph.graph_output_schema)?,
        })
    }

    /// # Errors
    /// 422 `input_invalid` with a JSON pointer per fault.
    pub(super) fn check_input(&self, input: &RawValue) -> Result<(), ApiError> {
        check(&self.input, input, Code::InputInvalid, "the input", &self.uri)
    }

    /// # Errors
    /// 502 `graph_output_invalid` with a JSON pointer per fault.
    pub(super) fn check_output(&self, output: &RawValue) -> Result<(), ApiError> {
        check(&self.output, output, Code::GraphOutputInvalid, "what the graph gave", &self.uri)
    }
}

fn compile(schema: Object) -> Result<Schema, ApiError> {
    Schema::compile(&Value::Object(schema)).map_err(|_| ApiError::internal("a stored schema is not valid"))
}

fn check(schema: &Schema, text: &RawValue, code: Code, what: &str, uri: &str) -> Result<(), ApiError> {
    if schema.is_empty() {
        return Ok(());
    }
    let value: Value = serde_json::from_str(text.get())
        .map_err(|error| ApiError::new(code, format!("{what} cannot be checked: {error}")))?;
    schema.validate(&value).map_err(|faults| unfit(code, what, uri, &faults))
}
