//! `edict policy run <folder>`: a run without a server.

use super::super::failure::Failure;
use super::super::output::{Output, show_if_slow, spinner};
use super::check::checked;
use super::execute::{InputArgs, Inputs, print};
use super::folder::PolicyFolder;
use clap::Args;
use edict_client::records::Execution;
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
    let execution = show_if_slow(&spinner("running"), run_locally(&folder, inputs, args.inputs.logs)).await?;
    print(out, &execution)
}

/// Runs the folder's policy once, as an executor would.
async fn run_locally(folder: &PolicyFolder, inputs: Inputs, logs: bool) -> Result<Execution, Failure> {
    let _ = (inputs, logs);
    Err(Failure::failed(format!(
        "this build cannot run `{}`: it has no Python runtime",
        folder.path.display()
    )))
}
