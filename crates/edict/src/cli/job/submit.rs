//! `edict job submit`: accepted is durable; with `--wait`, what became of it.

use super::super::failure::Failure;
use super::super::json;
use super::super::output::Output;
use super::super::request::RequestArgs;
use super::wait;
use clap::Args;
use edict_client::Client;
use edict_client::records::Seconds;

#[derive(Args)]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// What the policy gets as input: JSON, @file, or - for stdin
    #[arg(long, value_name = "JSON", allow_negative_numbers = true, required_unless_present = "file")]
    input: Option<String>,
    /// Longest time for one attempt: `90s`, `5m`; the policy's own limit when left out
    #[arg(long, value_name = "DURATION")]
    attempt_timeout: Option<Seconds>,
    /// How many failed attempts are followed by another; 0 when left out
    #[arg(long, value_name = "NUMBER")]
    retries: Option<u32>,
    /// Wait until it has its final state, and print what it gave
    #[arg(long)]
    wait: bool,
    /// Longest wait: `90s`, `5m`; for ever when left out
    #[arg(long = "for", value_name = "DURATION", requires = "wait")]
    longest: Option<Seconds>,
}

pub(super) async fn run(args: SubmitArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut request = args.request.read()?;
    let input = args.input.as_deref().map(|input| json::read("--input", input)).transpose()?;
    request.set("inputs", input)?;
    request.set("timeout", args.attempt_timeout)?;
    request.set("backoff_limit", args.retries)?;
    let job = client.submit_job(args.request.executor.as_deref(), &request).await?;
    if !args.wait {
        return out.done(&job.job_id, &job);
    }
    let job = wait::until_final(client, &job.job_id, args.longest).await?;
    wait::print(out, &job)
}
