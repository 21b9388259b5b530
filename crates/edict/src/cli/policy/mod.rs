//! `edict policy`: from an empty folder to a policy that runs on a server.

mod check;
mod execute;
mod folder;
mod init;
mod local;
mod push;
mod run;

use super::Global;
use super::failure::Failure;
use super::list::{Column, ListArgs};
use super::output::Output;
use clap::{Args, Subcommand};
use edict_client::records::Policy;

pub(super) use folder::check_folder;
#[cfg(test)]
pub(super) use init::InitArgs;
pub(super) use push::{pack, register, upload};

const COLUMNS: &[Column] = &[
    ("URI", "policy_rule_uri"),
    ("TAGS", "tags"),
    ("DESCRIPTION", "description"),
    ("REVISION", "revision"),
    ("UPDATED", "updated_at"),
];

#[derive(Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Make a folder with a working policy to start from
    Init(init::InitArgs),
    /// Check a policy's folder, without a server
    Check(check::CheckArgs),
    /// Run the policy in a folder here, without a server
    Run(run::RunArgs),
    /// Pack a policy's folder, upload and register it
    Push(push::PushArgs),
    /// List registered policies
    List(ListArgs),
    /// Show a registered policy
    Get {
        /// For example `ip_allowlist:1.0-beta`
        uri: String,
    },
    /// Remove a registered policy
    Delete {
        /// For example `ip_allowlist:1.0-beta`
        uri: String,
    },
    /// Run a registered policy on an executor
    Execute(execute::ExecuteArgs),
    /// Send a management command to a registered policy
    Manage(execute::ManageArgs),
}

pub(crate) async fn run(args: PolicyArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    match args.command {
        PolicyCommand::Init(args) => init::run(&args, out),
        PolicyCommand::Check(args) => check::run(&args, out).await,
        PolicyCommand::Run(args) => run::run(args, out).await,
        PolicyCommand::Push(args) => push::run(&args, &global.client()?, out).await,
        PolicyCommand::List(list) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = global.client()?.query_policies(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
        PolicyCommand::Get { uri } => {
            out.record(&global.client()?.get_policy(&uri).await?, Policy::known_fields())
        }
        PolicyCommand::Delete { uri } => {
            global.client()?.delete_policy(&uri).await?;
            out.done(&format!("deleted {uri}"), &serde_json::json!({"deleted": uri}))
        }
        PolicyCommand::Execute(args) => execute::execute(args, &global.client()?, out).await,
        PolicyCommand::Manage(args) => execute::manage(args, &global.client()?, out).await,
    }
}
