//! `/asset`: stored files, and files elsewhere that are known by their URL.

use super::{Client, Listing, Page, Stored, reply};
use crate::Error;
use crate::records::{Asset, AssetVersion, Object};
use bytes::Bytes;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::time::Duration;

/// Uploads get a second on top of the timeout for so many bytes: a slow line still gets a large file through.
const SLOWEST_UPLOAD_PER_SECOND: u64 = 64 * 1024;

/// What to call an uploaded file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewAsset {
    /// 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub asset_name: String,
    /// Version and tag.
    pub asset_version: AssetVersion,
    /// Anything worth knowing about the asset.
    pub asset_metadata: Object,
    /// For queries.
    pub asset_tags: Vec<String>,
}

/// A file to upload, from memory or as a stream ([`Body::wrap_stream`]).
#[derive(Debug)]
pub struct Content {
    /// What the file is called, without folders.
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// The bytes themselves, as many as `size` says.
    pub body: Body,
}

impl Content {
    /// A file that is in memory.
    pub fn from_bytes(file_name: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { file_name: file_name.to_owned(), size: bytes.len() as u64, body: bytes.into() }
    }
}

/// A file on its way from the server.
#[derive(Debug)]
pub struct Download {
    /// Bytes, when the server says.
    pub size: Option<u64>,
    response: Response,
    server: String,
    timeout: Duration,
}

impl Client {
    /// Stores a file as an asset.
    pub async fn upload_asset(&self, asset: &NewAsset, content: Content) -> Result<Stored<Asset>, Error> {
        let metadata = serde_json::to_string(asset)
            .map_err(|error| Error::Invalid(format!("asset_metadata: {error}")))?;
        let timeout = self.inner.timeout + Duration::from_secs(content.size / SLOWEST_UPLOAD_PER_SECOND);
        let file = Part::stream_with_length(content.body, content.size).file_name(content.file_name);
        // The metadata goes first, so that the server can refuse it without reading the file.
        let form = Form::new().text("asset_metadata", metadata).part("asset", file);
        let request =
            self.request(Method::POST, self.path(&["upload_asset"])?).timeout(timeout).multipart(form);
        Ok(self.call(request).await?.stored())
    }

    /// Registers a file that is elsewhere: an [`Asset`] with `asset_public_url`, or any JSON of that shape.
    pub async fn create_asset(&self, asset: &(impl Serialize + ?Sized)) -> Result<Stored<Asset>, Error> {
        Ok(self.post(&["asset"], asset).await?.stored())
    }

    /// Reads an asset's record.
    pub async fn get_asset(&self, uri: &str) -> Result<Asset, Error> {
        self.get(&["asset", uri]).await
    }

    /// Changes an asset's record: `change` is a full record, or an object of update operators such as `$set`.
    ///
    /// With `if_match`, only if the record still has that revision; otherwise the error is a conflict.
    pub async fn update_asset(
        &self,
        uri: &str,
        change: &(impl Serialize + ?Sized),
        if_match: Option<u64>,
    ) -> Result<Stored<Asset>, Error> {
        Ok(self.put(&["asset", uri], change, if_match).await?.stored())
    }

    /// Removes an asset and its stored file.
    pub async fn delete_asset(&self, uri: &str) -> Result<(), Error> {
        self.delete(&["asset", uri]).await
    }

    /// Finds assets with a Mongo-style filter; `{}` finds all. `T` is [`Asset`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_assets<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        self.query(&["assets"], filter, page).await
    }

    /// Opens a stored file for reading, by its `asset_id`.
    pub async fn download_asset(&self, asset_id: &str) -> Result<Download, Error> {
        let url = self.path(&["asset-object", asset_id])?;
        self.download(url).await
    }

    /// Opens what is at `url` for reading.
    pub(super) async fn download(&self, url: Url) -> Result<Download, Error> {
        let timeout = self.inner.timeout;
        // The usual timeout counts to the end of the body, which would cut off every large file.
        let request = self.request_without_timeout(Method::GET, url);
        let response = within(timeout, self.url(), self.send(request)).await??;
        let response = within(timeout, self.url(), reply::refused(response, self.url())).await??;
        let size = response.content_length();
        Ok(Download { size, response, server: self.url().to_owned(), timeout })
    }
}

impl Download {
    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        within(self.timeout, &self.server, self.response.chunk())
            .await?
            .map_err(|error| reply::unreachable(&self.server, error))
    }
}

async fn within<T>(timeout: Duration, server: &str, future: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(timeout, future).await.map_err(|_| Error::Unreachable {
        url: server.to_owned(),
        reason: format!("nothing arrived for {} s; try again, or allow more time", timeout.as_secs()),
        source: None,
    })
}
