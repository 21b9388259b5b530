//! `edict job`: one attempt of a job, in a process of its own: a pod. It reads what it is to do from the policy system, does
//! it, and reports; what it cannot report stands in its log, where its executor finds it ([`told_in`]).

use super::attempt::{self, Log};
use super::seal::Seal;
use super::settle::fault;
use super::source::{Source, held};
use crate::error::{ApiError, Code};
use crate::execution::{Compiled, Home, Runner, relay, start_tools};
use crate::executors::process;
use crate::server::{ServeError, stop_signal};
use crate::settings::{Secret, Settings};
use edict_client::records::{AttemptBrief, AttemptEnd, ClaimedJob, FinishAttempt, HeldJob, JobStatus};
use edict_client::{Client, Error};
use std::io::Write;
use std::time::{Duration, Instant};

/// How long the policy system is waited for, at the start and at the end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);
/// In front of what the policy system could not be told. A policy cannot print it: its lines become records of the log.
const MARKER: &str = "edict-attempt-end: ";

/// Carries out the attempt of a job that runs now.
///
/// # Errors
/// When the policy system could not be told of the end; then the log tells it.
pub(crate) async fn run(
    settings: Settings,
    job_id: &str,
    (node, runner): (Option<String>, String),
) -> Result<(), ServeError> {
    let mut stop = Box::pin(stop_signal());
    let client = process::client(&settings)?;
    let brief = tokio::select! {
        brief = brief(&client, job_id, &runner) => brief?,
        () = &mut stop => return Ok(()),
    };
    let AttemptBrief { mut claimed, policy, state, begun_elsewhere } = brief;
    if claimed.job.job_status != JobStatus::Running {
        tracing::info!(job = job_id, "there is no attempt to be carried out");
        return Ok(());
    }
    let (source, log) = (Source::Attempt(client.clone()), Log::default());
    if begun_elsewhere {
        // The cluster made this pod in place of one that is gone, and with it its run.
        tracing::warn!(job = job_id, "another pod has begun this attempt, and is gone");
        let finish = FinishAttempt { held: held(&claimed), end: AttemptEnd::Lost, log: None, node_id: None };
        return report(&client, finish).await;
    }
    let compiled = match policy {
        Some(policy) => Compiled::new(policy, state),
        None => Err(missing(&claimed)),
    };
    let end = match compiled {
        Err(error) => AttemptEnd::Failed(fault(error)),
        Ok(compiled) => {
            claimed.edition = Some(compiled.edition.clone());
            tokio::select! {
                end = carry_out(&settings, client.clone(), compiled, (&source, &claimed, &log)) => end?,
                // Its node is drained, or nobody wants it any more, which makes no difference then.
                () = stop => AttemptEnd::Returned,
            }
        }
    };
    let log = log.unsaved(&claimed);
    report(&client, FinishAttempt { held: held(&claimed), end, log, node_id: node }).await
}

/// The token of this attempt, which its executor has sealed.
///
/// # Errors
/// The executor has another key by now; then the log tells that the attempt is lost.
pub(crate) fn token(job_id: &str, sealed: &str, key: &str) -> Result<Secret, ServeError> {
    let opened = Seal::new(key.to_owned()).and_then(|seal| seal.open(job_id, sealed));
    opened.map(Secret::from).or_else(|_| {
        let held = HeldJob { job_id: job_id.to_owned(), revision: 0 };
        tell(&FinishAttempt { held, end: AttemptEnd::Lost, log: None, node_id: None })?;
        Err(ServeError::Registration("`EDICT_JOB_KEY` does not open `EDICT_JOB_TOKEN`".to_owned()))
    })
}

/// What is to be done.
async fn brief(client: &Client, job_id: &str, runner: &str) -> Result<AttemptBrief, ApiError> {
    let started = Instant::now();
    loop {
        match client.begin_attempt(job_id, runner).await {
            Ok(brief) => return Ok(brief),
            Err(error @ Error::Api(_)) => return Err(relay(error)),
            Err(error) if started.elapsed() > PATIENCE => return Err(relay(error)),
            Err(error) => tracing::warn!(%error, "the policy system does not answer yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn carry_out(
    settings: &Settings,
    client: Client,
    compiled: Compiled,
    (source, claimed, log): (&Source, &ClaimedJob, &Log),
) -> Result<AttemptEnd, ServeError> {
    let (cache, own) = (settings.data_dir.join("cache"), settings.data_dir.join("job"));
    let (tools, home) = start_tools(settings, &cache, &own).await?;
    let home = home.set(Home::of_attempt(client, claimed.job.executor_id.clone(), compiled));
    let runner = Runner::new(tools, home, settings);
    let end = attempt::run(&runner, source, claimed, log).await;
    runner.tools.runtime.stop(Duration::ZERO).await;
    Ok(end)
}

fn missing(claimed: &ClaimedJob) -> ApiError {
    let uri = &claimed.job.policy_rule_uri;
    ApiError::new(Code::PolicyNotFound, format!("there is no policy `{uri}` any more"))
}

/// Tells the policy system, for as long as it may only be away for a moment; then the log.
async fn report(client: &Client, mut finish: FinishAttempt) -> Result<(), ServeError> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match client.finish_attempt(&finish).await {
            Ok(_) => return Ok(()),
            // The database may refuse what it is to hold; the failure is small and plain.
            Err(Error::Api(error)) if error.code == Code::Internal.as_str() => {
                finish.end = AttemptEnd::Failed(fault(relay(Error::Api(error))));
            }
            Err(error) => tracing::warn!(%error, "the end of the attempt was not taken"),
        }
        tokio::time::sleep(AGAIN).await;
    }
    tell(&finish)?;
    Err(ServeError::Registration(
        "the policy system could not be told of the end, which is in the log".to_owned(),
    ))
}

/// Tells the executor, by way of the log.
fn tell(finish: &FinishAttempt) -> Result<(), ServeError> {
    let text = serde_json::to_string(finish).map_err(ApiError::internal)?;
    writeln!(std::io::stdout(), "{MARKER}{text}").ok();
    Ok(())
}

/// What the log of such a process says that the policy system could not be told.
pub(super) fn told_in(log: &str) -> Option<FinishAttempt> {
    log.lines().rev().find_map(|line| serde_json::from_str(line.strip_prefix(MARKER)?).ok())
}
