//! `edict graph show <uri>`: draws a graph.

use super::super::failure::Failure;
use super::super::output::Output;
use super::run::table;
use super::times::Times;
use super::{draw, svg};
use crate::graphs::Plan;
use clap::Args;
use edict_client::Client;
use edict_client::records::{Graph, GraphRun};
use serde_json::json;
use std::path::PathBuf;

/// Width of a drawing that nobody looks at in a terminal.
const COLUMNS: usize = 160;

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// For example `ip_risk_analysis:1.0-stable`
    uri: String,
    /// Draw the times of a recorded run, too
    #[arg(long = "run", value_name = "RUN_ID")]
    run_id: Option<String>,
    /// Write the drawing into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) async fn run(args: &ShowArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let graph = client.get_graph(&args.uri).await?;
    let run = match &args.run_id {
        Some(id) => Some(client.get_graph_run(id).await?),
        None => None,
    };
    if let Some(run) = run.as_ref().filter(|run| run.graph_uri != graph.graph_uri) {
        let message = format!("run `{}` is one of graph `{}`", run.run_id, run.graph_uri);
        return Err(Failure::usage(message));
    }
    let plan = Plan::new(&graph.graph_function_ids, &graph.graph_connection_data)
        .map_err(|fault| Failure::failed(fault.message))?;
    match &args.svg {
        Some(path) => {
            let picture = svg::picture(&graph.graph_uri, &plan, run.as_ref()).ok_or_else(|| {
                Failure::failed("the graph is too large to be drawn; `edict graph show` lists its stages")
            })?;
            std::fs::write(path, picture)
                .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", path.display())))?;
            out.done(&format!("wrote {}", path.display()), &json!({"written": path}))
        }
        None if out.is_json() => out.json(&json!({"graph": graph, "run": run})),
        None => print(&graph, &plan, run.as_ref(), out),
    }
}

/// A graph with the times of its run; None when it is too large to be drawn.
pub(crate) fn drawing(graph: &Graph, run: &GraphRun) -> Option<String> {
    let plan = Plan::new(&graph.graph_function_ids, &graph.graph_connection_data).ok()?;
    draw::draw(&plan, Some(&Times::of_run(run)), COLUMNS)
}

fn print(graph: &Graph, plan: &Plan, run: Option<&GraphRun>, out: &mut Output<'_>) -> Result<(), Failure> {
    let times = run.map(Times::of_run);
    let columns = rustix::termios::tcgetwinsize(std::io::stdout())
        .map_or(COLUMNS, |size| usize::from(size.ws_col))
        .max(20);
    match draw::draw(plan, times.as_ref(), columns) {
        Some(drawing) => out.line(&drawing)?,
        None => stages(plan, out)?,
    }
    match run {
        Some(run) => table(run, out),
        None if graph.graph_description.is_empty() => Ok(()),
        None => out.done(&format!("\n{}", graph.graph_description), &graph.graph_description),
    }
}

/// What is too wide or too long for a drawing, as a row per node.
fn stages(plan: &Plan, out: &mut Output<'_>) -> Result<(), Failure> {
    let name = |node: &usize| plan.nodes.get(*node).map_or("", |node| &node.name);
    let mut rows = Vec::new();
    for (stage, nodes) in plan.stages().iter().enumerate() {
        for node in nodes {
            let parents = plan.nodes.get(*node).map_or(&[][..], |node| &node.parents);
            let from: Vec<&str> = parents.iter().map(name).collect();
            rows.push(vec![(stage + 1).to_string(), name(node).to_owned(), from.join(" ")]);
        }
    }
    out.rows(&["STAGE", "NODE", "FED BY"], rows)
}
