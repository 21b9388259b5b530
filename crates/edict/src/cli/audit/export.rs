//! `edict audit export`

use super::super::failure::Failure;
use super::super::output::Output;
use clap::Args;
use edict_client::Client;
use std::path::PathBuf;
use tokio::io::{AsyncWriteExt, BufWriter};

#[derive(Args)]
pub(super) struct ExportArgs {
    /// From the first entry that was written at this time or later: `2026-01-31T12:00:00Z`, or how long ago: `24h`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to the last entry that was written before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Where to write them; stdout when left out
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(args: &ExportArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut entries = client.export_audit(args.since.as_deref(), args.until.as_deref()).await?;
    let Some(path) = &args.file else {
        while let Some(chunk) = entries.chunk().await? {
            out.bytes(&chunk)?;
        }
        return Ok(());
    };
    let failed =
        |error: std::io::Error| Failure::failed(format!("cannot write `{}`: {error}", path.display()));
    let mut file = BufWriter::new(tokio::fs::File::create(path).await.map_err(failed)?);
    while let Some(chunk) = entries.chunk().await? {
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}
