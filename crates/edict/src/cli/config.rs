//! `edict config`: the effective settings.

use super::failure::Failure;
use super::output::Output;
use crate::settings::SettingsArgs;
use clap::Args;

#[derive(Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &ConfigArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let loaded = args.settings.load().map_err(|error| Failure::usage(error.to_string()))?;
    if out.is_json() {
        return out.json(&loaded.masked());
    }
    out.line(loaded.to_toml().trim_end())
}
