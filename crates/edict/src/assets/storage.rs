//! Where uploaded files are kept: a folder, or an S3-compatible bucket.

use crate::error::{ApiError, Code};
use crate::settings::Settings;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use std::sync::Arc;
use std::time::Duration;

/// Why the storage cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("the folder for assets cannot be made: {0}")]
    Folder(#[from] std::io::Error),
    #[error("`assets_url` cannot be used: {0}")]
    Bucket(#[from] object_store::Error),
}

/// The store of uploaded files; each is an object named by its asset's id.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    objects: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Storage {
    /// Opens what the settings name.
    pub(crate) fn open(settings: &Settings) -> Result<Self, StorageError> {
        let Some(bucket) = settings.assets_url.strip_prefix("s3://") else {
            let folder = settings.data_dir.join("assets");
            std::fs::create_dir_all(&folder)?;
            // With fsync: an upload that was acknowledged survives a power cut.
            let objects = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
            return Ok(Self { objects: Arc::new(objects), prefix: String::new() });
        };
        let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
        let mut builder =
            AmazonS3Builder::from_env().with_bucket_name(bucket).with_region(settings.s3_region.as_str());
        if !settings.s3_endpoint.is_empty() {
            builder = builder
                .with_endpoint(settings.s3_endpoint.trim_end_matches('/'))
                .with_allow_http(settings.s3_endpoint.starts_with("http://"));
        }
        if !settings.s3_access_key_id.is_empty() {
            builder = builder.with_access_key_id(settings.s3_access_key_id.as_str());
        }
        if let Some(key) = settings.s3_secret_access_key.given() {
            builder = builder.with_secret_access_key(key);
        }
        Ok(Self { objects: Arc::new(builder.build()?), prefix: prefix.trim_matches('/').to_owned() })
    }

    fn path(&self, asset_id: &str) -> Path {
        Path::from(format!("{}/{asset_id}", self.prefix))
    }

    /// Starts an upload, which nobody sees before it is completed.
    pub(crate) async fn begin(&self, asset_id: &str) -> Result<Box<dyn MultipartUpload>, ApiError> {
        self.objects.put_multipart(&self.path(asset_id)).await.map_err(unavailable)
    }

    /// A file's content, all at once.
    pub(crate) async fn read(&self, asset_id: &str) -> Result<Bytes, ApiError> {
        let result = self.get(asset_id).await?;
        result.bytes().await.map_err(unavailable)
    }

    /// A file's content, piece by piece.
    pub(crate) async fn stream(
        &self,
        asset_id: &str,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>, ApiError> {
        Ok(self.get(asset_id).await?.into_stream())
    }

    async fn get(&self, asset_id: &str) -> Result<object_store::GetResult, ApiError> {
        // Ids are made by us; anything else is no object of ours, and must not become a path.
        if uuid::Uuid::try_parse(asset_id).is_err() {
            return Err(missing(asset_id));
        }
        self.objects.get(&self.path(asset_id)).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => missing(asset_id),
            other => unavailable(other),
        })
    }

    /// Removes a file; that it is gone already is no fault.
    pub(crate) async fn remove(&self, asset_id: &str) -> Result<(), ApiError> {
        match self.objects.delete(&self.path(asset_id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }
}

fn missing(asset_id: &str) -> ApiError {
    ApiError::new(
        Code::AssetNotFound,
        format!("there is no stored asset with the id `{}`", crate::shorten(asset_id)),
    )
}

/// The cause may hold paths and bucket names, which are for the log only.
pub(crate) fn unavailable(error: object_store::Error) -> ApiError {
    tracing::error!(%error, "asset storage failed");
    ApiError::new(Code::StorageUnavailable, "the storage of assets does not answer; try again")
        .retry_after(Duration::from_secs(1))
}
