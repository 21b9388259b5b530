//! What makes an asset record valid.

use crate::error::{ApiError, Code};
use crate::http::document;
use crate::policies::record::check_name;
use edict_client::records::{Asset, Object};

/// Fields that only the server sets.
pub(super) const OWN_FIELDS: [&str; 6] =
    ["asset_uri", "asset_id", "asset_file_info", "created_at", "updated_at", "revision"];

/// Turns a payload into a record. What only the server sets is taken from `previous`, or starts anew.
///
/// # Errors
/// 400 for unknown fields, wrong types and names.
pub(crate) fn from_payload(mut payload: Object, previous: Option<&Asset>) -> Result<Asset, ApiError> {
    for field in OWN_FIELDS {
        payload.remove(field);
    }
    let mut asset: Asset = document(payload, Asset::known_fields())?;
    check_name("asset_name", &asset.asset_name)?;
    check_name("asset_version.version", &asset.asset_version.version)?;
    check_name("asset_version.tag", &asset.asset_version.tag)?;
    let now = crate::now();
    asset.asset_uri = asset.uri();
    asset.asset_id = previous.map_or_else(|| uuid::Uuid::new_v4().to_string(), |old| old.asset_id.clone());
    asset.asset_file_info = previous.and_then(|old| old.asset_file_info.clone());
    asset.created_at = previous.map_or_else(|| now.clone(), |old| old.created_at.clone());
    asset.revision = previous.map_or(1, |old| old.revision + 1);
    asset.updated_at = now;
    Ok(asset)
}

/// Checks the address of an asset that is kept elsewhere.
///
/// # Errors
/// 400 `invalid_field`.
pub(crate) fn check_url(asset: &Asset) -> Result<(), ApiError> {
    let valid = reqwest::Url::parse(&asset.asset_public_url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if valid {
        return Ok(());
    }
    Err(ApiError::new(
        Code::InvalidField,
        format!(
            "field `asset_public_url` must be an http(s) URL, got `{}`; to store a file use POST /upload_asset",
            crate::shorten(&asset.asset_public_url)
        ),
    ))
}
