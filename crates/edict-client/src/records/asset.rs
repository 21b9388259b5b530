//! Assets: stored files, or files elsewhere that are known by their URL.

use super::Object;
use serde::{Deserialize, Serialize};

/// An asset as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Asset {
    /// `{asset_name}:{version}-{tag}`; always derived.
    #[serde(default)]
    pub asset_uri: String,
    /// What `/asset-object/<asset_id>` takes; given by the server.
    #[serde(default)]
    pub asset_id: String,
    /// 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub asset_name: String,
    /// Version and tag.
    pub asset_version: AssetVersion,
    /// Anything worth knowing about the asset.
    #[serde(default)]
    pub asset_metadata: Object,
    /// For queries.
    #[serde(default)]
    pub asset_tags: Vec<String>,
    /// Where the content can be downloaded.
    #[serde(default)]
    pub asset_public_url: String,
    /// Size, digest and type of a stored file; null for an asset that is only a URL.
    #[serde(default)]
    pub asset_file_info: Option<AssetFileInfo>,
    /// When the record was made; set by the server.
    #[serde(default)]
    pub created_at: String,
    /// When the record last changed; set by the server.
    #[serde(default)]
    pub updated_at: String,
    /// 1, 2, …; set by the server, and what `If-Match` compares.
    #[serde(default)]
    pub revision: u64,
}

impl Asset {
    /// The record's address in the registry, from its name, version and tag.
    pub fn uri(&self) -> String {
        format!("{}:{}-{}", self.asset_name, self.asset_version.version, self.asset_version.tag)
    }

    /// Every field that a payload may hold.
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "asset_uri",
            "asset_id",
            "asset_name",
            "asset_version",
            "asset_metadata",
            "asset_tags",
            "asset_public_url",
            "asset_file_info",
            "created_at",
            "updated_at",
            "revision",
        ]
    }
}

/// An asset's version and tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AssetVersion {
    /// For example `1.0`.
    pub version: String,
    /// For example `beta`.
    pub tag: String,
}

/// What the server knows of a stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssetFileInfo {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content in hex.
    pub sha256: String,
    /// MIME type, as uploaded.
    pub content_type: String,
    /// File name, as uploaded, without folders.
    pub file_name: String,
}
