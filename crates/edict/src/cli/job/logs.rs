//! `edict job logs`: what a job printed and logged, and with `--follow` what it prints from now on.

use super::super::failure::Failure;
use super::super::output::{Output, log_line};
use clap::Args;
use edict_client::Client;
use edict_client::records::JobLogRecord;
use std::time::Duration;

/// How far behind the job `--follow` may be.
const STEP: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct LogsArgs {
    /// As `submit` printed it
    job: String,
    /// Go on until the job has its final state; as JSON, one line per record
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(args: &LogsArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    if args.follow {
        return follow(&args.job, client, out).await;
    }
    let logs = client.job_logs(&args.job, 0).await?;
    if out.is_json() {
        return out.json(&logs);
    }
    logs.iter().try_for_each(|log| out.line(&line(log)))
}

async fn follow(id: &str, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut shown = 0;
    let mut wait = Duration::ZERO;
    loop {
        // The state first: what a job in its final state has logged does not grow any more.
        let finished = client.get_job(id, Some(wait)).await?.job_status.is_final();
        let logs = client.job_logs(id, shown).await?;
        logs.iter().try_for_each(|log| show(out, log))?;
        shown += logs.len();
        if finished {
            return Ok(());
        }
        wait = STEP;
    }
}

/// Attempts after the first are told apart.
fn line(log: &JobLogRecord) -> String {
    match log.attempt {
        0 | 1 => log_line(&log.record),
        attempt => format!("attempt {attempt} {}", log_line(&log.record)),
    }
}

fn show(out: &mut Output<'_>, log: &JobLogRecord) -> Result<(), Failure> {
    if !out.is_json() {
        return out.line(&line(log));
    }
    let line = serde_json::to_string(log).map_err(|error| Failure::failed(error.to_string()))?;
    out.line(&line)
}
