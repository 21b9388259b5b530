//! `edict audit`: what was done to clusters, and that nobody has changed what the trail says of it.

mod export;
mod list;
mod stats;
mod verify;

use super::Global;
use super::failure::Failure;
use super::output::Output;
use clap::{Args, Subcommand};
use edict_client::Client;

/// What `show` prints, in this order.
const FIELDS: &[&str] = &[
    "id",
    "actionType",
    "status",
    "namespace",
    "resourceType",
    "resourceName",
    "actionParams",
    "requestedBy",
    "ipAddress",
    "dryRun",
    "policyDecision",
    "errorCode",
    "errorMessage",
    "result",
    "executionDuration",
    "createdAt",
    "completedAt",
    "steps",
];

#[derive(Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
    /// Address of the action executor
    #[arg(
        long,
        global = true,
        env = "EDICT_ACTIONS_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:4000",
        value_name = "URL"
    )]
    actions_url: String,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// List actions, the newest first
    List(list::ListArgs),
    /// Show an action with its entries in the trail
    Show {
        /// The `auditId` of the reply, as `list` shows it
        id: String,
    },
    /// Look at every entry, and say which were changed, removed, added or moved
    Verify(verify::VerifyArgs),
    /// Write the entries as they are hashed, a line of JSON each
    Export(export::ExportArgs),
    /// Show figures of the actions of a time
    Stats(stats::StatsArgs),
}

pub(crate) async fn run(args: AuditArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let client = || -> Result<Client, Failure> { global.client_for(&args.actions_url) };
    match args.command {
        AuditCommand::List(list) => list::run(list, &client()?, out).await,
        AuditCommand::Show { id } => out.record(&client()?.audit_log(&id).await?, FIELDS),
        AuditCommand::Verify(verify) => match &verify.file {
            // Whoever distrusts the server does not ask it.
            Some(file) => verify::offline(file, verify.head.clone(), out).await,
            None => verify::online(verify.head.as_deref(), &client()?, out).await,
        },
        AuditCommand::Export(export) => export::run(&export, &client()?, out).await,
        AuditCommand::Stats(stats) => stats::run(&stats, &client()?, out).await,
    }
}
