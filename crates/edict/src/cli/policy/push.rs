//! `edict policy push <folder>`: packs, uploads and registers.

use super::super::failure::Failure;
use super::super::output::{Output, show_if_slow, spinner};
use super::check::checked;
use super::folder::PolicyFolder;
use bytes::Bytes;
use clap::Args;
use edict_client::records::{Asset, AssetVersion, Object, Policy};
use edict_client::{Client, Content, NewAsset, Stored};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct PushArgs {
    /// Holds `policy.yaml` and `code/function.py`
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Replace the policy if one with this name, version and tag is registered
    #[arg(long)]
    update: bool,
}

pub(crate) async fn run(args: &PushArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let folder = checked(&args.folder)?;
    let archive = pack(&folder)?;
    let asset = show_if_slow(&spinner("uploading"), upload(client, &folder.policy, archive)).await?;
    let mut record = folder.record;
    record.insert("code".to_owned(), Value::String(asset.asset_uri));
    let uri = folder.policy.uri();
    let pushed = show_if_slow(&spinner("registering"), register(client, &uri, &record, args.update)).await?;
    for warning in &pushed.warnings {
        out.aside(&format!("warning: {warning}"));
    }
    out.done(&pushed.record.policy_rule_uri, &pushed.record)
}

/// The folder's code as an archive.
pub(crate) fn pack(folder: &PolicyFolder) -> Result<Bytes, Failure> {
    edict_runtime::bundle::pack(&folder.path).map_err(|error| Failure::failed(error.to_string()))
}

/// Stores the archive under a name that tells its content, so that every version of the code stays what it is, and
/// pushing the same code again stores nothing.
pub(crate) async fn upload(client: &Client, policy: &Policy, archive: Bytes) -> Result<Asset, Failure> {
    let sha256 = hex::encode(Sha256::digest(&archive));
    let version = format!("{}-{}", policy.version, policy.release_tag);
    let tag = sha256.chars().take(16).collect();
    let asset = NewAsset {
        asset_name: policy.name.clone(),
        asset_version: AssetVersion { version, tag },
        asset_metadata: Object::new(),
        asset_tags: vec!["policy".to_owned()],
    };
    let uri = format!("{}:{}-{}", asset.asset_name, asset.asset_version.version, asset.asset_version.tag);
    let refused = match client.upload_asset(&asset, Content::from_bytes("policy.zip", archive)).await {
        Ok(stored) => return Ok(stored.record),
        Err(error) if error.is_conflict() => error,
        Err(error) => return Err(error.into()),
    };
    let stored = client.get_asset(&uri).await?;
    if stored.asset_file_info.as_ref().is_some_and(|info| info.sha256 == sha256) {
        Ok(stored)
    } else {
        Err(refused.into())
    }
}

pub(crate) async fn register(
    client: &Client,
    uri: &str,
    record: &Object,
    update: bool,
) -> Result<Stored<Policy>, Failure> {
    if update {
        match client.update_policy(uri, record, None).await {
            Err(error) if error.is_not_found() => {}
            done => return Ok(done?),
        }
    }
    client.create_policy(record, true).await.map_err(|error| {
        let exists = error.is_conflict();
        let failure = Failure::from(error);
        if exists {
            failure.note("hint", "--update replaces it; or raise `version` in policy.yaml")
        } else {
            failure
        }
    })
}
