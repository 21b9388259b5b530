//! `edict job wait`: until the final state, which is the program's exit code.

use super::super::failure::{Exit, Failure};
use super::super::output::{Output, show_if_slow, spinner};
use super::super::request::Patience;
use clap::Args;
use edict_client::Client;
use edict_client::records::{Job, JobStatus, Seconds};
use serde_json::Value;

#[derive(Args)]
pub(super) struct WaitArgs {
    /// As `submit` printed it
    job: String,
    /// Longest wait: `90s`, `5m`; for ever when left out
    #[arg(long = "for", value_name = "DURATION")]
    longest: Option<Seconds>,
}

pub(super) async fn run(args: &WaitArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let job = until_final(client, &args.job, args.longest).await?;
    print(out, &job)
}

/// The job in its final state, whichever that is.
pub(super) async fn until_final(client: &Client, id: &str, longest: Option<Seconds>) -> Result<Job, Failure> {
    let patience = Patience::new(longest);
    let bar = spinner("waiting");
    let waiting = async {
        loop {
            let job = client.get_job(id, Some(patience.next())).await?;
            if job.job_status.is_final() {
                return Ok(job);
            }
            if patience.is_over() {
                let status = job.job_status.as_str();
                return Err(Failure::timed_out(format!("job `{id}` is still {status}"))
                    .note("hint", format!("go on waiting with `edict job wait {id}`")));
            }
            bar.set_message(match job.attempts {
                0 | 1 => job.job_status.as_str().to_owned(),
                attempts => format!("{}, attempt {attempts}", job.job_status.as_str()),
            });
        }
    };
    show_if_slow(&bar, waiting).await
}

/// What it gave is the result; everything else than completion is a failure.
pub(super) fn print(out: &mut Output<'_>, job: &Job) -> Result<(), Failure> {
    let id = &job.job_id;
    match (job.job_status, &job.error) {
        (JobStatus::Completed, _) if out.is_json() => out.json(job),
        (JobStatus::Completed, _) => {
            let output = job.job_output_data.as_ref().map_or("null", |output| output.get());
            let output: Value =
                serde_json::from_str(output).map_err(|error| Failure::failed(error.to_string()))?;
            out.json(&output)
        }
        (_, Some(fault)) => Err(Failure::fault(Exit::Failed, fault)
            .note("job", format!("{id} {} in attempt {}", job.job_status.as_str(), job.attempts))
            .note("hint", format!("`edict job logs {id}` shows what it printed"))),
        (status, None) => Err(Failure::failed(format!("job `{id}` is {}", status.as_str()))),
    }
}
