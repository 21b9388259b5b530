//! `edict graph run <uri>`: runs a graph.

use super::super::failure::Failure;
use super::super::json;
use super::super::output::{Output, show_if_slow, spinner};
use super::times::{milliseconds, word};
use clap::Args;
use edict_client::Client;
use edict_client::records::{ExecuteGraph, GraphRun, NodeRun, Seconds};
use serde_json::Value;

#[derive(Args)]
pub(crate) struct RunArgs {
    /// For example `ip_risk_analysis:1.0-stable`
    uri: String,
    /// What the roots get: JSON, @file, or - for stdin
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    input: String,
    /// Show what each node did, and record its input and output
    #[arg(long)]
    trace: bool,
    /// Longest time for the whole run, for example `90s`; a minute when left out
    #[arg(long, value_name = "TIME")]
    run_timeout: Option<Seconds>,
    /// Longest time for each node, for example `500ms`
    #[arg(long, value_name = "TIME")]
    node_timeout: Option<Seconds>,
}

pub(crate) async fn run(args: RunArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let request = ExecuteGraph {
        graph_uri: args.uri,
        input_data: json::read("--input", &args.input)?,
        timeout: args.run_timeout,
        node_timeout: args.node_timeout,
    };
    let execution = show_if_slow(&spinner("running"), client.execute_graph(&request, args.trace)).await?;
    if out.is_json() && args.trace {
        return out.json(&execution);
    }
    let data: Value = serde_json::from_str(execution.data.get())
        .map_err(|error| Failure::failed(format!("cannot print the result: {error}")))?;
    out.json(&data)?;
    match &execution.trace {
        Some(run) => table(run, out),
        None => Ok(()),
    }
}

/// What each node did, a row per node.
pub(super) fn table(run: &GraphRun, out: &mut Output<'_>) -> Result<(), Failure> {
    let time = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), milliseconds);
    let row = |node: &NodeRun| {
        let error = node.error.as_ref().map_or_else(String::new, |error| error.message.clone());
        let (status, started, took) = (word(node.status), time(node.started_ms), time(node.duration_ms));
        vec![node.node.clone(), status.to_owned(), started, took, error]
    };
    out.line(&format!("\nrun {} {} in {}", run.run_id, word(run.run_status), milliseconds(run.duration_ms)))?;
    out.rows(&["NODE", "STATUS", "STARTED", "TOOK", "ERROR"], run.nodes.iter().map(row).collect())
}
