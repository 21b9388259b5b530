//! `POST /upload_asset`

use super::storage::{Storage, unavailable};
use super::{ASSETS, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, Reply, decode};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::StatusCode;
use edict_client::records::{Asset, AssetFileInfo, Object};
use object_store::MultipartUpload;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// Bytes that are sent to the storage at a time; S3 wants at least 5 MiB in all but the last part.
const PART: usize = 8 << 20;
/// Bytes of metadata at most.
const LARGEST_METADATA: usize = 1 << 20;

/// The form's fields.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form for the API description")]
pub(crate) struct Upload {
    /// The file.
    #[schema(content_media_type = "application/octet-stream")]
    asset: Vec<u8>,
    /// JSON text: `asset_name`, `asset_version` (`version`, `tag`), `asset_metadata`, `asset_tags`.
    asset_metadata: String,
}

/// Stores a file and returns its record with a public URL.
#[utoipa::path(
    post,
    path = "/upload_asset",
    tag = "assets",
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses((status = 200, body = Reply<Asset>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn upload(
    _: Admin,
    State(app): State<App>,
    mut request: Request,
) -> Result<Data<Asset>, ApiError> {
    let limit = app.settings.max_upload_mb << 20;
    // In place of the 2 MB that forms may otherwise have; what is counted below refuses with better words.
    DefaultBodyLimit::max(limit + 2 * LARGEST_METADATA).apply(&mut request);
    let form = Multipart::from_request(request, &()).await.map_err(|error| {
        invalid(format!(
            "the request is no upload: {error}; send a form with the fields `asset` and `asset_metadata`"
        ))
    })?;
    let storage = &app.registry.storage;
    let asset_id = uuid::Uuid::new_v4().to_string();
    let received = receive(form, storage, &asset_id, limit).await;
    let stored = match received {
        Ok((payload, info)) => register(&app, &asset_id, payload, info).await,
        Err(error) => Err(error),
    };
    if stored.is_err() {
        // Without a record nobody could ever find the file again.
        storage.remove(&asset_id).await.ok();
    }
    stored
}

async fn register(
    app: &App,
    asset_id: &str,
    payload: Object,
    info: AssetFileInfo,
) -> Result<Data<Asset>, ApiError> {
    let mut asset = record::from_payload(payload, None)?;
    asset_id.clone_into(&mut asset.asset_id);
    asset.asset_public_url = format!("{}/asset-object/{asset_id}", app.public_url);
    asset.asset_file_info = Some(info);
    ASSETS.create(&app.registry.store, &asset.asset_uri, &asset).await?;
    Ok(Data::new(asset).revision(1))
}

async fn receive(
    mut form: Multipart,
    storage: &Storage,
    asset_id: &str,
    limit: usize,
) -> Result<(Object, AssetFileInfo), ApiError> {
    let (mut payload, mut info) = (None, None);
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        match field.name().unwrap_or_default() {
            "asset" if info.is_none() => info = Some(store_file(field, storage, asset_id, limit).await?),
            "asset_metadata" if payload.is_none() => payload = Some(metadata(field).await?),
            repeated @ ("asset" | "asset_metadata") => {
                return Err(invalid(format!("the form has the field `{repeated}` twice")));
            }
            other => {
                let shown = crate::shorten(other);
                return Err(invalid(format!(
                    "unknown form field `{shown}`; there are `asset` and `asset_metadata`"
                )));
            }
        }
    }
    let payload = payload.ok_or_else(|| invalid("the form field `asset_metadata` is missing".to_owned()))?;
    let info = info.ok_or_else(|| invalid("the form field `asset` with the file is missing".to_owned()))?;
    Ok((payload, info))
}

async fn metadata(mut field: Field<'_>) -> Result<Object, ApiError> {
    let mut text = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        text.extend_from_slice(&chunk);
        if text.len() > LARGEST_METADATA {
            return Err(ApiError::new(
                Code::BodyTooLarge,
                "the form field `asset_metadata` is larger than 1 MiB",
            ));
        }
    }
    decode(&text)
}

async fn store_file(
    mut field: Field<'_>,
    storage: &Storage,
    asset_id: &str,
    limit: usize,
) -> Result<AssetFileInfo, ApiError> {
    let content_type = field.content_type().unwrap_or("application/octet-stream").to_owned();
    let file_name = base_name(field.file_name().unwrap_or("asset"));
    let mut upload = storage.begin(asset_id).await?;
    match transfer(&mut field, upload.as_mut(), limit).await {
        Ok((size, sha256)) => {
            upload.complete().await.map_err(unavailable)?;
            Ok(AssetFileInfo { size, sha256, content_type, file_name })
        }
        Err(error) => {
            upload.abort().await.ok();
            Err(error)
        }
    }
}

async fn transfer(
    field: &mut Field<'_>,
    upload: &mut dyn MultipartUpload,
    limit: usize,
) -> Result<(u64, String), ApiError> {
    let (mut size, mut digest, mut part) = (0_usize, Sha256::new(), Vec::new());
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        size += chunk.len();
        if size > limit {
            return Err(ApiError::new(
                Code::BodyTooLarge,
                format!(
                    "the file is larger than {} MiB; raise `max_upload_mb` if that is intended",
                    limit >> 20
                ),
            ));
        }
        digest.update(&chunk);
        part.extend_from_slice(&chunk);
        if part.len() >= PART {
            upload.put_part(std::mem::take(&mut part).into()).await.map_err(unavailable)?;
        }
    }
    upload.put_part(part.into()).await.map_err(unavailable)?;
    Ok((size as u64, hex::encode(digest.finalize())))
}

/// The last part of a path, in either notation, without what could break a header.
fn base_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !c.is_control() && *c != '"').take(200).collect();
    if kept.is_empty() { "asset".to_owned() } else { kept }
}

fn invalid(message: String) -> ApiError {
    ApiError::new(Code::InvalidUpload, message)
}

fn broken(error: &MultipartError) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(Code::BodyTooLarge, "the upload is larger than this server takes");
    }
    invalid(format!("the upload cannot be read: {error}; send it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_lose_their_folders() {
        assert_eq!(base_name("../../etc/passwd"), "passwd");
        assert_eq!(base_name("C:\\temp\\a.zip"), "a.zip");
        assert_eq!(base_name("a\r\n\"b"), "ab");
        assert_eq!(base_name("dir/"), "asset");
    }
}
