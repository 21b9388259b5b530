//! `edict function`: policies deployed as long-lived services. Without a subcommand, one replica, which is what runs in a pod.

mod call;
mod deploy;
mod logs;
mod manage;
mod rollout;
mod update;

use super::Global;
use super::failure::Failure;
use super::list::{Column, ListArgs};
use super::output::Output;
use super::serve;
use crate::functions::pod;
use crate::settings::SettingsArgs;
use clap::{Args, Subcommand};
use serde_json::json;

const COLUMNS: &[Column] = &[
    ("NAME", "function_id"),
    ("STATE", "function_status.state"),
    ("READY", "function_status.ready"),
    ("WANTED", "function_status.desired"),
    ("RESTARTS", "function_status.restarts"),
    ("POLICY", "function_policy_rule_uri"),
    ("EXECUTOR", "function_executor_id"),
];

/// What `get` shows, in this order.
const FIELDS: &[&str] = &[
    "function_id",
    "function_status",
    "function_policy_rule_uri",
    "policy_rule_parameters",
    "policy_rule_settings",
    "replicas",
    "autoscaling",
    "function_executor_id",
    "function_executor_uri",
    "node_selector",
    "function_metadata",
    "function_tags",
    "created_at",
    "updated_at",
    "revision",
];

#[derive(Args)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct FunctionArgs {
    #[command(subcommand)]
    command: Option<FunctionCommand>,
    /// The function of which this process serves one replica, as a pod of an executor does
    #[arg(long = "replica-of", value_name = "FUNCTION", env = "EDICT_FUNCTION", required = true)]
    replica_of: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Subcommand)]
enum FunctionCommand {
    /// Deploy a policy as a function
    Deploy(deploy::DeployArgs),
    /// Change a function, or have it take in its policy as it is now; no call fails
    Update(update::UpdateArgs),
    /// Change how many replicas a function has
    Scale(update::ScaleArgs),
    /// Call a function
    Call(call::CallArgs),
    /// Send a management command to every replica of a function
    Manage(manage::ManageArgs),
    /// List functions
    List(ListArgs),
    /// Show a function
    Get {
        /// For example `check-ip-fn`
        name: String,
    },
    /// Show what a function's replicas printed and logged last
    Logs(logs::LogsArgs),
    /// Remove a function and its replicas
    Remove {
        /// For example `check-ip-fn`
        name: String,
    },
}

pub(crate) async fn run(args: FunctionArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let Some(command) = args.command else {
        let settings = serve::settings(&args.settings)?;
        let function = args.replica_of.unwrap_or_default();
        return pod::run(settings, &function).await.map_err(serve::failure);
    };
    let client = global.client()?;
    match command {
        FunctionCommand::Deploy(args) => deploy::run(args, &client, out).await,
        FunctionCommand::Update(args) => update::update(&args, &client, out).await,
        FunctionCommand::Scale(args) => update::scale(&args, &client, out).await,
        FunctionCommand::Call(args) => call::run(&args, &client, out).await,
        FunctionCommand::Manage(args) => manage::run(args, &client, out).await,
        FunctionCommand::List(list) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = client.query_functions(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
        FunctionCommand::Get { name } => out.record(&client.get_function(&name, None).await?, FIELDS),
        FunctionCommand::Logs(args) => logs::run(&args, &client, out).await,
        FunctionCommand::Remove { name } => {
            client.remove_function(&name).await?;
            out.done(&format!("removed {name}"), &json!({"removed": name}))
        }
    }
}
