//! `edict graph`: functions that feed each other.

mod draw;
mod layout;
mod push;
mod run;
mod show;
mod svg;
#[cfg(test)]
mod tests;
mod times;

use super::Global;
use super::failure::Failure;
use super::list::{Column, ListArgs};
use super::output::Output;
use clap::{Args, Subcommand};
use edict_client::records::Graph;
use serde_json::json;

pub(super) use show::drawing;

const COLUMNS: &[Column] = &[
    ("URI", "graph_uri"),
    ("NODES", "graph_function_ids"),
    ("DESCRIPTION", "graph_description"),
    ("REVISION", "revision"),
    ("UPDATED", "updated_at"),
];

const RUN_COLUMNS: &[Column] = &[
    ("RUN", "run_id"),
    ("GRAPH", "graph_uri"),
    ("STATUS", "run_status"),
    ("MS", "duration_ms"),
    ("STARTED", "started_at"),
    ("ERROR", "error.message"),
];

#[derive(Args)]
pub(crate) struct GraphArgs {
    #[command(subcommand)]
    command: GraphCommand,
}

#[derive(Subcommand)]
enum GraphCommand {
    /// Register the graph in a file
    Push(push::PushArgs),
    /// Check the graph in a file as registering it would, and show how it would run
    Check(push::CheckArgs),
    /// Run a graph
    Run(run::RunArgs),
    /// Draw a graph, and a run's times on it
    Show(show::ShowArgs),
    /// List recorded runs
    Runs(ListArgs),
    /// List registered graphs
    List(ListArgs),
    /// Show a graph's record
    Get {
        /// For example `ip_risk_analysis:1.0-stable`
        uri: String,
    },
    /// Remove a graph; its functions and recorded runs stay
    Delete {
        /// For example `ip_risk_analysis:1.0-stable`
        uri: String,
    },
}

pub(crate) async fn run(args: GraphArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let client = global.client()?;
    match args.command {
        GraphCommand::Push(args) => push::push(&args, &client, out).await,
        GraphCommand::Check(args) => push::check(&args, &client, out).await,
        GraphCommand::Run(args) => run::run(args, &client, out).await,
        GraphCommand::Show(args) => show::run(&args, &client, out).await,
        GraphCommand::Runs(list) => {
            let (filter, page) = list.request(out, RUN_COLUMNS)?;
            let found = client.query_graph_runs(&filter, &page).await?;
            list.print(out, RUN_COLUMNS, found)
        }
        GraphCommand::List(list) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = client.query_graphs(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
        GraphCommand::Get { uri } => out.record(&client.get_graph(&uri).await?, Graph::known_fields()),
        GraphCommand::Delete { uri } => {
            client.delete_graph(&uri).await?;
            out.done(&format!("deleted {uri}"), &json!({"deleted": uri}))
        }
    }
}
