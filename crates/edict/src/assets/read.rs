//! `GET /asset/<asset_uri>`

use super::ASSETS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::Asset;
use serde_json::value::RawValue;

/// Returns an asset's record.
#[utoipa::path(
    get,
    path = "/asset/{asset_uri}",
    tag = "assets",
    params(("asset_uri" = String, Path, example = "IP-allow-list:1.0-beta")),
    responses((status = 200, body = Reply<Asset>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(uri): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let document = ASSETS.get(&app.registry.store, &uri).await?;
    Ok(Data::new(document.doc).revision(document.revision))
}
