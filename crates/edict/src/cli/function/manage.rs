//! `edict function manage`: one command, every replica.

use super::super::failure::Failure;
use super::super::json;
use super::super::output::{Output, show_if_slow, spinner};
use clap::Args;
use edict_client::Client;
use edict_client::records::ManageFunction;

#[derive(Args)]
pub(super) struct ManageArgs {
    /// For example `check-ip-fn`
    name: String,
    /// The command, for example `update_local_allowlist`
    action: String,
    /// The command's arguments: a JSON object, @file, or - for stdin
    #[arg(long, default_value = "{}", value_name = "JSON")]
    data: String,
}

pub(super) async fn run(args: ManageArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let data = json::read_object("--data", &args.data)?;
    let command = ManageFunction { action: args.action, data };
    let call = client.manage_function(&args.name, &command);
    let managed = show_if_slow(&spinner("running"), call).await?;
    if out.is_json() {
        return out.json(&managed);
    }
    for answer in &managed.replicas {
        match &answer.error {
            Some(fault) => out.aside(&format!("replica {} failed: {}", answer.replica, fault.message)),
            None => out.aside(&format!("replica {} answered", answer.replica)),
        }
    }
    out.json(&managed.data)
}
