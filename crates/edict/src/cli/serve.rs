//! `edict serve`: the server.

use super::failure::Failure;
use crate::server::{self, ServeError};
use crate::settings::{Settings, SettingsArgs};
use crate::telemetry;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Write the listeners' URLs into this file, as JSON, once the server serves
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let settings = settings(&args.settings)?;
    server::serve(settings, args.ready_file.as_deref()).await.map_err(failure)
}

/// The settings of a process that serves, with logging started as they say.
pub(super) fn settings(args: &SettingsArgs) -> Result<Settings, Failure> {
    let settings = args.load().map_err(|error| Failure::usage(error.to_string()))?.settings;
    telemetry::start_logging(&settings).map_err(Failure::usage)?;
    Ok(settings)
}

/// Why a process that serves did not start, for its user.
pub(super) fn failure(error: ServeError) -> Failure {
    match error {
        ServeError::Settings(error) => Failure::usage(error.to_string()),
        other => Failure::failed(other.to_string()),
    }
}
