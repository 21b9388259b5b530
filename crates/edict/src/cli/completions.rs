//! `edict completions <shell>`

use super::Cli;
use super::failure::Failure;
use super::output::Output;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell; for bash: `source <(edict completions bash)`
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    // Generating straight to stdout would panic on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "edict", &mut script);
    out.bytes(&script)
}
