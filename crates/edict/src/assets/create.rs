//! `POST /asset`

use super::{ASSETS, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Reply};
use axum::extract::State;
use edict_client::records::{Asset, Object};

/// Registers a file that is kept elsewhere, by its `asset_public_url`.
#[utoipa::path(
    post,
    path = "/asset",
    tag = "assets",
    request_body = Asset,
    responses((status = 200, body = Reply<Asset>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create(
    _: Admin,
    State(app): State<App>,
    Body(payload): Body<Object>,
) -> Result<Data<Asset>, ApiError> {
    let asset = record::from_payload(payload, None)?;
    record::check_url(&asset)?;
    ASSETS.create(&app.registry.store, &asset.asset_uri, &asset).await?;
    Ok(Data::new(asset).revision(1))
}
