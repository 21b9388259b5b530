//! Graphs: functions that feed each other, and their runs.

use super::{Object, RunFault, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A graph as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Graph {
    /// `{graph_name}:{graph_version}-{graph_release_tag}`; always derived.
    #[serde(default)]
    pub graph_uri: String,
    /// What it is called.
    pub graph_name: String,
    /// Its version.
    pub graph_version: String,
    /// Its release tag.
    pub graph_release_tag: String,
    /// Text or an object.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub graph_metadata: Value,
    /// The functions, one per node. Their order is the order of inputs where several come together.
    pub graph_function_ids: Vec<String>,
    /// For each node, the nodes that get its output.
    #[serde(default)]
    pub graph_connection_data: BTreeMap<String, Vec<String>>,
    /// For finding it.
    #[serde(default)]
    pub graph_search_tags: Vec<String>,
    /// For people.
    #[serde(default)]
    pub graph_description: String,
    /// What the input must look like.
    #[serde(default)]
    pub graph_input_schema: Object,
    /// What the output looks like.
    #[serde(default)]
    pub graph_output_schema: Object,
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

impl Graph {
    /// The record's address, from its name, version and tag.
    pub fn uri(&self) -> String {
        format!("{}:{}-{}", self.graph_name, self.graph_version, self.graph_release_tag)
    }

    /// Every field that a payload may hold.
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "graph_uri",
            "graph_name",
            "graph_version",
            "graph_release_tag",
            "graph_metadata",
            "graph_function_ids",
            "graph_connection_data",
            "graph_search_tags",
            "graph_description",
            "graph_input_schema",
            "graph_output_schema",
            "created_at",
            "updated_at",
            "revision",
        ]
    }
}

/// How a graph would run: the answer to `POST /graphs/check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GraphPlan {
    /// The address that the graph would have.
    pub graph_uri: String,
    /// Whether there is a graph with this address already.
    pub exists: bool,
    /// The nodes that get the graph's input.
    pub roots: Vec<String>,
    /// The nodes whose output is the graph's.
    pub leaves: Vec<String>,
    /// The nodes by how many come before them on the longest way: those of one stage can run at the same time.
    pub stages: Vec<Vec<String>>,
}

/// What running a graph gave: the answer to `POST /graph/execute_graph`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GraphExecution {
    /// The output of its leaf; of several leaves, an object by leaf.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: Box<RawValue>,
    /// Finds the recorded run.
    pub run_id: String,
    /// What each node did, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<GraphRun>,
}

/// Body of `POST /graph/execute_graph`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecuteGraph {
    /// The graph to run.
    pub graph_uri: String,
    /// What the roots get.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input_data: Box<RawValue>,
    /// How long the whole run may take: seconds, or text such as `90s`. Default 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Seconds>,
    /// How long each node may take, waiting for a free replica included. Default: the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_timeout: Option<Seconds>,
}

/// A recorded run of a graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GraphRun {
    /// Made by the server.
    pub run_id: String,
    /// The graph that ran.
    pub graph_uri: String,
    /// The graph's revision then.
    pub graph_revision: u64,
    /// How it ended.
    pub run_status: RunStatus,
    /// What the roots got.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input_data: Box<RawValue>,
    /// What it gave, when it completed.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub output: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<RunFault>,
    /// RFC 3339 in UTC.
    pub started_at: String,
    /// Milliseconds that the whole run took.
    pub duration_ms: f64,
    /// What each node did, in the order of `graph_function_ids`.
    pub nodes: Vec<NodeRun>,
}

/// What one node did in a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeRun {
    /// The function.
    pub node: String,
    /// How it ended.
    pub status: RunStatus,
    /// Milliseconds from the start of the run until its inputs were there; null when it did not start.
    #[serde(default)]
    pub started_ms: Option<f64>,
    /// Milliseconds that the call took; null when it did not start.
    #[serde(default)]
    pub duration_ms: Option<f64>,
    /// What it got, when the run was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input: Option<Box<RawValue>>,
    /// What it gave, when the run was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub output: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunFault>,
}

/// How a run, or a node of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It gave an output.
    Completed,
    /// It failed.
    Failed,
    /// It was under way when another node failed, time ran out or the caller went away.
    Cancelled,
    /// It did not start, because the run had failed before.
    Skipped,
}
