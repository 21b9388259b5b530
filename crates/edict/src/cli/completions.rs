//! `edict completions <shell>`

use super::failure::Failure;
use super::{Cli, Global};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::{self, Write};

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell; for bash: `source <(edict completions bash)`
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs, _global: &Global) -> Result<(), Failure> {
    // Generating straight to stdout would panic on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "edict", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}
