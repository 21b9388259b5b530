//! `edict job`: runs that are queued, survive restarts and end in exactly one final state. Without a subcommand, one attempt
//! of a job, which is what runs in a pod.

mod logs;
mod submit;
mod wait;

use super::Global;
use super::failure::Failure;
use super::list::{Column, ListArgs};
use super::output::Output;
use super::serve;
use crate::jobs::pod;
use crate::settings::SettingsArgs;
use clap::{Args, Subcommand};

const COLUMNS: &[Column] = &[
    ("JOB", "job_id"),
    ("NAME", "name"),
    ("STATUS", "job_status"),
    ("EXECUTOR", "executor_id"),
    ("ATTEMPTS", "attempts"),
    ("CREATED", "created_at"),
    ("FINISHED", "finished_at"),
];

/// What `get` shows, in this order.
const FIELDS: &[&str] = &[
    "job_id",
    "name",
    "job_status",
    "policy_rule_uri",
    "policy_rule_parameters",
    "policy_rule_settings",
    "inputs",
    "executor_id",
    "node_selector",
    "node_id",
    "waiting_for",
    "timeout",
    "backoff_limit",
    "attempts",
    "job_output_data",
    "error",
    "created_at",
    "started_at",
    "finished_at",
];

#[derive(Args)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    command: Option<JobCommand>,
    /// The job whose attempt this process carries out, as a pod of an executor does
    #[arg(long = "attempt-of", value_name = "JOB", env = "EDICT_JOB", required = true)]
    attempt_of: Option<String>,
    /// The node that it runs on, for the job's record
    #[arg(long, value_name = "NAME", env = "EDICT_NODE")]
    node: Option<String>,
    /// What tells this process from others that may want to carry it out; made up when left out
    #[arg(long, value_name = "UID", env = "EDICT_POD_UID")]
    pod: Option<String>,
    /// The attempt's token as its executor has sealed it, in the place of the setting `server_token`
    #[arg(long, env = "EDICT_JOB_TOKEN", hide = true, hide_env_values = true, requires = "job_key")]
    job_token: Option<String>,
    /// What opens it
    #[arg(long, env = "EDICT_JOB_KEY", hide = true, hide_env_values = true)]
    job_key: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Subcommand)]
enum JobCommand {
    /// Have a policy run once, as soon as there is a place for it
    Submit(submit::SubmitArgs),
    /// Wait until a job has its final state, and print what it gave
    Wait(wait::WaitArgs),
    /// List jobs
    List(ListArgs),
    /// Show a job
    Get {
        /// As `submit` printed it
        job: String,
    },
    /// Show what a job printed and logged
    Logs(logs::LogsArgs),
    /// End a job that waits or runs
    Cancel {
        /// As `submit` printed it
        job: String,
    },
}

pub(crate) async fn run(args: JobArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let Some(command) = args.command else {
        let mut settings = serve::settings(&args.settings)?;
        let job = args.attempt_of.unwrap_or_default();
        if let (Some(token), Some(key)) = (args.job_token, args.job_key) {
            settings.server_token = pod::token(&job, &token, &key).map_err(serve::failure)?;
        }
        let runner = args.pod.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        return pod::run(settings, &job, (args.node, runner)).await.map_err(serve::failure);
    };
    let client = global.client()?;
    match command {
        JobCommand::Submit(args) => submit::run(args, &client, out).await,
        JobCommand::Wait(args) => wait::run(&args, &client, out).await,
        JobCommand::List(list) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = client.query_jobs(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
        JobCommand::Get { job } => out.record(&client.get_job(&job, None).await?, FIELDS),
        JobCommand::Logs(args) => logs::run(&args, &client, out).await,
        JobCommand::Cancel { job } => {
            let cancelled = client.cancel_job(&job).await?;
            out.done(&format!("cancelled {job}"), &cancelled)
        }
    }
}
