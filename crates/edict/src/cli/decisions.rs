//! `edict decisions`: the policies behind decisions.

use super::Global;
use super::decide::EngineArgs;
use super::failure::Failure;
use super::list::{Column, ListArgs};
use super::output::Output;
use crate::decisions::folder::files;
use clap::{Args, Subcommand};
use edict_client::records::DecisionPolicy;
use serde_json::json;
use std::path::PathBuf;

const COLUMNS: &[Column] = &[
    ("NAME", "name"),
    ("EFFECT", "effect"),
    ("TYPE", "type"),
    ("PRIORITY", "priority"),
    ("ACTIVE", "isActive"),
    ("SOURCE", "source"),
    ("REVISION", "revision"),
];

#[derive(Args)]
pub(crate) struct DecisionsArgs {
    #[command(subcommand)]
    command: DecisionsCommand,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Subcommand)]
enum DecisionsCommand {
    /// Register the decision policies in a file or folder, all or none
    Push {
        /// YAML or JSON: a policy, a list, or `policies` with a list; in a folder, every such file
        path: PathBuf,
        /// Take the place of decision policies with the same names
        #[arg(long)]
        replace: bool,
    },
    /// List decision policies
    List(ListArgs),
    /// Show a decision policy
    Get {
        /// Its name or id
        id: String,
    },
    /// Remove a decision policy
    Delete {
        /// Its name or id
        id: String,
    },
}

pub(crate) async fn run(args: DecisionsArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let client = args.engine.client(global)?;
    match args.command {
        DecisionsCommand::Push { path, replace } => {
            let read = files::read(&path);
            let filed = read.map_err(|fault| Failure::failed(format!("`{}`: {fault}", path.display())))?;
            let policies: Vec<_> = filed.into_iter().map(|filed| filed.policy).collect();
            let done = client.import_decision_policies(&policies, replace).await.map_err(|error| {
                let exists = error.is_conflict();
                let failure = Failure::from(error);
                if exists {
                    failure.note("hint", "--replace takes the place of those with the same names")
                } else {
                    failure
                }
            })?;
            for warning in &done.warnings {
                out.aside(&format!("warning: {warning}"));
            }
            out.done(&format!("{} created, {} replaced", done.created, done.replaced), &done)
        }
        DecisionsCommand::List(list) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = client.query_decision_policies(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
        DecisionsCommand::Get { id } => {
            out.record(&client.get_decision_policy(&id).await?, DecisionPolicy::known_fields())
        }
        DecisionsCommand::Delete { id } => {
            client.delete_decision_policy(&id).await?;
            out.done(&format!("deleted {id}"), &json!({"deleted": id}))
        }
    }
}
