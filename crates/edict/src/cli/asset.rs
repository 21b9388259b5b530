//! `edict asset`: stored files.

use super::Global;
use super::failure::Failure;
use super::json;
use super::list::{Column, ListArgs};
use super::output::{Output, byte_bar, show_if_slow};
use clap::{Args, Subcommand};
use edict_client::records::{Asset, AssetVersion};
use edict_client::{Body, Client, Content, Download, NewAsset};
use sha2::{Digest, Sha256};
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio_util::io::ReaderStream;

const COLUMNS: &[Column] = &[
    ("URI", "asset_uri"),
    ("SIZE", "asset_file_info.size"),
    ("TYPE", "asset_file_info.content_type"),
    ("URL", "asset_public_url"),
    ("UPDATED", "updated_at"),
];

#[derive(Args)]
pub(crate) struct AssetArgs {
    #[command(subcommand)]
    command: AssetCommand,
}

#[derive(Subcommand)]
enum AssetCommand {
    /// Store a file
    Upload(UploadArgs),
    /// List assets
    List(ListArgs),
    /// Show an asset's record
    Get {
        /// For example `ip-allow-list:1.0-beta`
        uri: String,
    },
    /// Download a stored file
    Download(DownloadArgs),
    /// Remove an asset and its file
    Delete {
        /// For example `ip-allow-list:1.0-beta`
        uri: String,
    },
}

#[derive(Args)]
struct UploadArgs {
    file: PathBuf,
    /// Name of the asset; the file's name when left out
    #[arg(long)]
    name: Option<String>,
    /// Version of the asset
    #[arg(long = "asset-version", default_value = "1.0", value_name = "VERSION")]
    version: String,
    /// Tag of the version
    #[arg(long, default_value = "stable")]
    tag: String,
    /// Words to find it by, separated by commas
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
    /// Anything worth knowing: a JSON object, @file, or - for stdin
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
}

#[derive(Args)]
struct DownloadArgs {
    /// For example `ip-allow-list:1.0-beta`
    uri: String,
    /// Where to; `-` is stdout, and the name it was uploaded with when left out
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: AssetArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let client = global.client()?;
    match args.command {
        AssetCommand::Upload(args) => {
            let asset = upload(&client, args).await?;
            out.done(&asset.asset_uri, &asset)
        }
        AssetCommand::List(list) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = client.query_assets(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
        AssetCommand::Get { uri } => out.record(&client.get_asset(&uri).await?, Asset::known_fields()),
        AssetCommand::Download(args) => {
            let asset = client.get_asset(&args.uri).await?;
            match download(&client, &args, &asset, out).await? {
                Some(path) => out.done(&path.display().to_string(), &serde_json::json!({"path": path})),
                None => Ok(()),
            }
        }
        AssetCommand::Delete { uri } => {
            client.delete_asset(&uri).await?;
            out.done(&format!("deleted {uri}"), &serde_json::json!({"deleted": uri}))
        }
    }
}

async fn upload(client: &Client, args: UploadArgs) -> Result<Asset, Failure> {
    let path = &args.file;
    let fail = |error: io::Error| Failure::failed(format!("cannot read `{}`: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(fail)?;
    let found = file.metadata().await.map_err(fail)?;
    if !found.is_file() {
        return Err(Failure::usage(format!("`{}` is not a file", path.display())));
    }
    let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let asset = NewAsset {
        asset_name: args.name.unwrap_or_else(|| file_name.clone()),
        asset_version: AssetVersion { version: args.version, tag: args.tag },
        asset_metadata: json::read_optional("--metadata", args.metadata.as_deref())?.unwrap_or_default(),
        asset_tags: args.labels,
    };
    let bar = byte_bar(found.len(), "uploading");
    let body = Body::wrap_stream(ReaderStream::new(bar.wrap_async_read(file)));
    let content = Content { file_name, size: found.len(), body };
    Ok(show_if_slow(&bar, client.upload_asset(&asset, content)).await?.record)
}

/// Downloads to a file, whose path is returned, or to stdout.
async fn download(
    client: &Client,
    args: &DownloadArgs,
    asset: &Asset,
    out: &mut Output<'_>,
) -> Result<Option<PathBuf>, Failure> {
    let Some(info) = &asset.asset_file_info else {
        return Err(Failure::failed(format!(
            "`{}` is not stored by the server: it is at {}",
            asset.asset_uri, asset.asset_public_url
        )));
    };
    if args.to.as_deref() == Some(Path::new("-")) {
        let content = client.download_asset(&asset.asset_id).await?;
        copy(content, &info.sha256, |bytes| out.bytes(bytes)).await?;
        return Ok(None);
    }
    let target = match &args.to {
        Some(path) => path.clone(),
        // Whatever a server says, the file lands in this folder.
        None => PathBuf::from(Path::new(&info.file_name).file_name().unwrap_or(asset.asset_id.as_ref())),
    };
    let fail = |error: io::Error| Failure::failed(format!("cannot write `{}`: {error}", target.display()));
    if target.exists() && !args.force {
        return Err(Failure::failed(format!("`{}` exists; --force replaces it", target.display())));
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Written beside the target and moved there when complete, so that a broken download leaves nothing.
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(fail)?;
    let content = client.download_asset(&asset.asset_id).await?;
    copy(content, &info.sha256, |bytes| file.write_all(bytes).map_err(fail)).await?;
    let kept = if args.force { file.persist(&target) } else { file.persist_noclobber(&target) };
    kept.map_err(|error| fail(error.error))?;
    Ok(Some(target))
}

/// Hands on every chunk, and fails at the end if the content is not the one that was stored.
async fn copy(
    mut content: Download,
    sha256: &str,
    mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let bar = byte_bar(content.size.unwrap_or(0), "downloading");
    let mut hash = Sha256::new();
    let copying = async {
        while let Some(chunk) = content.chunk().await? {
            hash.update(&chunk);
            bar.inc(chunk.len() as u64);
            write(&chunk)?;
        }
        Ok::<(), Failure>(())
    };
    show_if_slow(&bar, copying).await?;
    let arrived = hex::encode(hash.finalize());
    if arrived != sha256 {
        return Err(Failure::failed(format!(
            "the content is damaged: its SHA-256 is {arrived}, not {sha256}"
        )));
    }
    Ok(())
}
