//! `edict policy execute` and `edict policy manage`: registered policies at work.

use super::super::failure::Failure;
use super::super::json;
use super::super::output::{Output, log_line, show_if_slow, spinner};
use clap::Args;
use edict_client::Client;
use edict_client::records::{ExecutePolicy, Execution, Manage, Object};
use serde_json::value::RawValue;

/// What a run is given; the same here and for a run without a server.
#[derive(Args)]
pub(super) struct InputArgs {
    /// What the policy gets as input: JSON, @file, or - for stdin
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    input: String,
    /// Overrides the policy's parameters, key by key: a JSON object or @file
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// Overrides the policy's settings, key by key: a JSON object or @file
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// Show what the policy prints and logs
    #[arg(long)]
    pub(super) logs: bool,
}

/// [`InputArgs`], read.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) input: Box<RawValue>,
    pub(super) parameters: Option<Object>,
    pub(super) settings: Option<Object>,
}

#[derive(Args)]
pub(crate) struct ExecuteArgs {
    /// For example `ip_allowlist:1.0-beta`
    uri: String,
    #[command(flatten)]
    inputs: InputArgs,
    /// Where to run it
    #[arg(long, default_value = "local", value_name = "ID")]
    executor: String,
}

#[derive(Args)]
pub(crate) struct ManageArgs {
    /// For example `ip_allowlist:1.0-beta`
    uri: String,
    /// The command, for example `update_local_allowlist`
    action: String,
    /// The command's arguments: a JSON object, @file, or - for stdin
    #[arg(long, default_value = "{}", value_name = "JSON")]
    data: String,
    /// Which executor's runs it is for
    #[arg(long, default_value = "local", value_name = "ID")]
    executor: String,
}

impl InputArgs {
    pub(super) fn read(&self) -> Result<Inputs, Failure> {
        Ok(Inputs {
            input: json::read("--input", &self.input)?,
            parameters: json::read_optional("--parameters", self.parameters.as_deref())?,
            settings: json::read_optional("--settings", self.settings.as_deref())?,
        })
    }
}

pub(crate) async fn execute(args: ExecuteArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let Inputs { input, parameters, settings } = args.inputs.read()?;
    let run = ExecutePolicy { policy_rule_uri: args.uri, input_data: input, parameters, settings };
    let call = client.execute_policy(&args.executor, &run, args.inputs.logs);
    let execution = show_if_slow(&spinner("running"), call).await?;
    print(out, &execution)
}

pub(crate) async fn manage(args: ManageArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let data = json::read_object("--data", &args.data)?;
    let command = Manage { policy_rule_uri: args.uri, action: args.action, data };
    let call = client.execute_mgmt_command(&args.executor, &command);
    out.json(&show_if_slow(&spinner("running"), call).await?)
}

/// The result is JSON for everybody; logs go beside it for people, and into the document for programs.
pub(super) fn print(out: &mut Output<'_>, execution: &Execution) -> Result<(), Failure> {
    let Some(logs) = &execution.logs else { return out.json(&execution.data) };
    if out.is_json() {
        return out.json(execution);
    }
    for log in logs {
        out.aside(&log_line(log));
    }
    out.json(&execution.data)
}
