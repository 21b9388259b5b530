//! `GET /asset-object/<asset_id>`

use super::ASSETS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::Path;
use crate::store::Statement;
use crate::store::documents::Collection;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use edict_client::records::{Asset, AssetFileInfo};

/// Returns an asset's content.
#[utoipa::path(
    get,
    path = "/asset-object/{asset_id}",
    tag = "assets",
    params(("asset_id" = String, Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = ErrorBody)
    )
)]
pub(crate) async fn download(
    _: Viewer,
    State(app): State<App>,
    Path(asset_id): Path<String>,
) -> Result<Response, ApiError> {
    let store = &app.registry.store;
    let doc = Collection::doc(store.dialect());
    let sql = format!("SELECT {doc} FROM {} WHERE asset_id = $1", ASSETS.name);
    let row = store.fetch_one::<(String,)>(Statement::new(sql).bind(asset_id.as_str())).await?;
    let (doc,) = row.ok_or_else(|| {
        ApiError::new(
            Code::AssetNotFound,
            format!("there is no asset with the id `{}`", crate::shorten(&asset_id)),
        )
    })?;
    let asset: Asset = serde_json::from_str(&doc).map_err(ApiError::internal)?;
    let Some(info) = asset.asset_file_info else {
        return Err(ApiError::new(
            Code::AssetNotFound,
            format!(
                "asset `{}` is not stored here; download it from its `asset_public_url`",
                asset.asset_uri
            ),
        ));
    };
    let content = app.registry.storage.stream(&asset_id).await?;
    reply(&info, Body::from_stream(content))
}

/// As a download: shown in a browser, an uploaded page would run with the rights of this server's own pages.
fn reply(info: &AssetFileInfo, body: Body) -> Result<Response, ApiError> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let value = |text: &str| HeaderValue::from_str(text).map_err(ApiError::internal);
    let content_type = HeaderValue::from_str(&info.content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(info.size));
    headers.insert(header::ETAG, value(&format!("\"{}\"", info.sha256))?);
    let name: String = info.file_name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect();
    headers.insert(header::CONTENT_DISPOSITION, value(&format!("attachment; filename=\"{name}\""))?);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
