//! `POST /graph/execute_graph`

use super::Graphs;
use super::compiled::Compiled;
use super::schedule::{Progress, Stop, Times};
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::execution::check_depth;
use crate::http::{Body, Parameters};
use axum::Json;
use axum::extract::State;
use edict_client::records::{ExecuteGraph, GraphRun, RunFault, RunStatus, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// How long a run may take unless its request says otherwise.
const RUN_TIME: Duration = Duration::from_secs(60);

/// What to return beside the output.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Return and record the time, input and output of each node, too.
    #[serde(default)]
    trace: bool,
}

/// Shape of a successful run's reply.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GraphAnswer {
    /// Always true.
    #[schema(example = true)]
    success: bool,
    /// The output of the graph's leaf; of several leaves, an object by leaf.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// Finds the recorded run.
    run_id: String,
    /// What each node did, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<GraphRun>,
}

/// Runs a graph.
#[utoipa::path(
    post,
    path = "/graph/execute_graph",
    tag = "graphs",
    params(Options),
    request_body = ExecuteGraph,
    responses((status = 200, body = GraphAnswer), (status = "default", body = ErrorBody))
)]
pub(crate) async fn execute_graph(
    _: Operator,
    State(app): State<App>,
    Parameters(options): Parameters<Options>,
    Body(request): Body<ExecuteGraph>,
) -> Result<Json<GraphAnswer>, ApiError> {
    let input = &*request.input_data;
    check_depth("field `input_data`", input.get())?;
    let graph = app.graphs.compiled(&request.graph_uri).await?;
    graph.check_input(input)?;
    let times = Times {
        run: request.timeout.map_or(RUN_TIME, Seconds::duration),
        node: request.node_timeout.map(Seconds::duration),
    };
    let mut running = Running::start(&app.graphs, &graph, input, options.trace);
    let functions = &app.functions;
    let ended = running
        .progress
        .run(times, |name, input| async move { functions.call(name, &input).await })
        .await
        .map_err(|stop| running.failed(times, stop));
    let output = ended.and_then(|output| match graph.check_output(&output) {
        Ok(()) => Ok(output),
        Err(error) => Err(running.unfit(error)),
    });
    let (run_id, trace) = running.end(&output, options.trace).await;
    Ok(Json(GraphAnswer { success: true, data: output?, run_id, trace }))
}

/// A run under way. It is recorded when it ends, and as cancelled when it is dropped before, because its caller went
/// away.
struct Running<'a> {
    graphs: &'a Graphs,
    graph: &'a Compiled,
    input: &'a RawValue,
    progress: Progress<'a>,
    run_id: String,
    started_at: String,
    recorded: bool,
}

impl<'a> Running<'a> {
    fn start(graphs: &'a Graphs, graph: &'a Compiled, input: &'a RawValue, trace: bool) -> Self {
        Self {
            graphs,
            graph,
            input,
            progress: Progress::new(&graph.plan, input, trace),
            // Ids in the order of time: new rows come to the end of the database's index.
            run_id: uuid::Uuid::now_v7().to_string(),
            started_at: crate::now(),
            recorded: false,
        }
    }

    fn name(&self, node: usize) -> &'a str {
        self.graph.plan.nodes.get(node).map_or("", |node| &node.name)
    }

    /// The caller's answer to a run that gave no output.
    fn failed(&self, times: Times, stop: Stop) -> ApiError {
        let (uri, run_id) = (&self.graph.uri, &self.run_id);
        match stop {
            Stop::Node { node, error } if error.code() == Code::NodeTimeout => {
                error.details(json!({"node": self.name(node), "run_id": run_id}))
            }
            Stop::Node { node, error } => {
                let node = self.name(node);
                let message = format!("node `{node}` of graph `{uri}` failed: {}", error.message());
                let details = json!({"node": node, "error": RunFault::from(error), "run_id": run_id});
                ApiError::new(Code::NodeFailed, message).details(details)
            }
            Stop::Timeout { nodes } => {
                let nodes: Vec<&str> = nodes.into_iter().map(|node| self.name(node)).collect();
                let shown: Vec<String> = nodes.iter().take(5).map(|node| format!("`{node}`")).collect();
                let (shown, limit) = (shown.join(", "), times.run.as_secs_f64());
                ApiError::new(
                    Code::GraphTimeout,
                    format!("graph `{uri}` took longer than its `timeout` of {limit} s; under way: {shown}"),
                )
                .details(json!({"nodes": nodes, "run_id": run_id}))
            }
            Stop::Broken(error) => error,
        }
    }

    /// The answer to an output that does not fit, with the id of the run.
    fn unfit(&self, error: ApiError) -> ApiError {
        let (code, message) = (error.code(), error.message().to_owned());
        let mut details = error.into_details();
        if let Value::Object(details) = &mut details {
            details.insert("run_id".to_owned(), json!(self.run_id));
        }
        ApiError::new(code, message).details(details)
    }

    /// Records and counts the run; returns its id, and its record when it was traced.
    async fn end(
        mut self,
        output: &Result<Box<RawValue>, ApiError>,
        trace: bool,
    ) -> (String, Option<GraphRun>) {
        let run = match output {
            Ok(output) => self.record(RunStatus::Completed, Some(output.clone()), None),
            Err(error) => self.record(RunStatus::Failed, None, Some(error.clone().into())),
        };
        let trace = trace.then(|| run.clone());
        self.recorded = true;
        count(&run, output.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok"));
        self.graphs.recorder.record(run).await;
        (std::mem::take(&mut self.run_id), trace)
    }

    fn record(
        &self,
        run_status: RunStatus,
        output: Option<Box<RawValue>>,
        error: Option<RunFault>,
    ) -> GraphRun {
        GraphRun {
            run_id: self.run_id.clone(),
            graph_uri: self.graph.uri.clone(),
            graph_revision: self.graph.revision,
            run_status,
            input_data: self.input.to_owned(),
            output,
            error,
            started_at: self.started_at.clone(),
            duration_ms: self.progress.elapsed(),
            nodes: self.progress.nodes(),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.recorded {
            let run = self.record(RunStatus::Cancelled, None, None);
            count(&run, "cancelled");
            self.graphs.recorder.record_now(run);
        }
    }
}

fn count(run: &GraphRun, result: &'static str) {
    let graph = &run.graph_uri;
    metrics::counter!("edict_graph_runs_total", "graph" => graph.clone(), "result" => result).increment(1);
    metrics::histogram!("edict_graph_run_duration_seconds", "graph" => graph.clone())
        .record(run.duration_ms / 1e3);
}
