//! `edict graph push <file>` and `edict graph check <file>`.

use super::super::failure::Failure;
use super::super::json;
use super::super::output::Output;
use clap::Args;
use edict_client::Client;
use edict_client::records::Graph;

#[derive(Args)]
pub(crate) struct PushArgs {
    /// Holds the graph's record as JSON or YAML; - for stdin
    file: String,
    /// Replace the graph if one with this name, version and tag is registered
    #[arg(long)]
    update: bool,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Holds the graph's record as JSON or YAML; - for stdin
    file: String,
}

pub(crate) async fn push(args: &PushArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let graph = json::read_document(&args.file)?;
    let part = |field: &str| graph.get(field).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let parts = (part("graph_name"), part("graph_version"), part("graph_release_tag"));
    if args.update
        && let (Some(name), Some(version), Some(tag)) = parts
    {
        match client.update_graph(&format!("{name}:{version}-{tag}"), &graph, None).await {
            Err(error) if error.is_not_found() => {}
            done => {
                let stored = done?.record;
                return out.done(&stored.graph_uri, &stored);
            }
        }
    }
    let stored: Graph = client
        .create_graph(&graph)
        .await
        .map_err(|error| {
            let exists = error.is_conflict();
            let failure = Failure::from(error);
            if exists {
                failure.note("hint", "--update replaces it; or raise `graph_version`")
            } else {
                failure
            }
        })?
        .record;
    out.done(&stored.graph_uri, &stored)
}

pub(crate) async fn check(args: &CheckArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let plan = client.check_graph(&json::read_document(&args.file)?).await?;
    if out.is_json() {
        return out.json(&plan);
    }
    let exists = if plan.exists { "is registered already" } else { "can be registered" };
    out.line(&format!("{} {exists}; it runs in {} stages:", plan.graph_uri, plan.stages.len()))?;
    let row = |(stage, nodes): (usize, &Vec<String>)| vec![(stage + 1).to_string(), nodes.join(" ")];
    out.rows(&["STAGE", "NODES"], plan.stages.iter().enumerate().map(row).collect())
}
