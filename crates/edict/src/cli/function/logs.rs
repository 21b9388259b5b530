//! `edict function logs`: what its replicas printed and logged last.

use super::super::failure::Failure;
use super::super::output::{Output, log_line};
use clap::Args;
use edict_client::Client;

#[derive(Args)]
pub(super) struct LogsArgs {
    /// For example `check-ip-fn`
    name: String,
    /// At most so many lines
    #[arg(long)]
    limit: Option<u64>,
}

pub(super) async fn run(args: &LogsArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let logs = client.function_logs(&args.name, args.limit).await?;
    if out.is_json() {
        return out.json(&logs);
    }
    logs.iter().try_for_each(|log| out.line(&format!("replica {} {}", log.replica, log_line(&log.record))))
}
