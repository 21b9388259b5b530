//! `edict policy run <folder>`: a run without a server.

use super::super::failure::Failure;
use super::super::output::{Output, show_if_slow, spinner};
use super::check::{checked, refuse};
use super::execute::{InputArgs, Inputs, print};
use super::folder::PolicyFolder;
use super::local::Local;
use clap::Args;
use edict_client::records::{ExecutePolicy, Execution};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Holds `policy.yaml` and `code/function.py`
    folder: PathBuf,
    #[command(flatten)]
    inputs: InputArgs,
}

pub(crate) async fn run(args: RunArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let folder = checked(&args.folder)?;
    let inputs = args.inputs.read()?;
    let local = Local::start().await?;
    let done =
        show_if_slow(&spinner("running"), run_locally(&local, &folder, inputs, args.inputs.logs)).await;
    local.stop().await;
    print(out, &done?)
}

/// Runs the folder's policy once, as an executor would.
async fn run_locally(
    local: &Local,
    folder: &PolicyFolder,
    inputs: Inputs,
    logs: bool,
) -> Result<Execution, Failure> {
    let ready = local.check(folder).await.map_err(|problems| refuse(&folder.path, &problems))?;
    let request = ExecutePolicy {
        policy_rule_uri: folder.policy.uri(),
        input_data: inputs.input,
        parameters: inputs.parameters,
        settings: inputs.settings,
    };
    let finished = local.run(&ready, request).await?;
    let data =
        serde_json::from_str(finished.data.get()).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Execution { data, logs: logs.then_some(finished.logs) })
}
