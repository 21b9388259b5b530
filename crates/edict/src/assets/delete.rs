//! `DELETE /asset/<asset_uri>`

use super::ASSETS;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, IfMatch, Path, Reply};
use axum::extract::State;
use edict_client::records::Asset;

/// Removes an asset and its stored file. Policies that were made from it keep their code.
#[utoipa::path(
    delete,
    path = "/asset/{asset_uri}",
    tag = "assets",
    params(("asset_uri" = String, Path), IfMatch),
    responses((status = 200, body = Reply<Asset>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn delete(
    _: Admin,
    State(app): State<App>,
    if_match: IfMatch,
    Path(uri): Path<String>,
) -> Result<Data<Asset>, ApiError> {
    let store = &app.registry.store;
    let document = ASSETS.get(store, &uri).await?;
    if_match.check(document.revision)?;
    let asset: Asset = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    let mut tx = store.begin().await?;
    if !ASSETS.delete(&mut tx, &uri, if_match.0).await? {
        return Err(ASSETS.missing(&uri));
    }
    tx.commit().await?;
    // After the record: a file without a record wastes room, a record without its file breaks its readers.
    if asset.asset_file_info.is_some() {
        app.registry.storage.remove(&asset.asset_id).await?;
    }
    Ok(Data::new(asset))
}
