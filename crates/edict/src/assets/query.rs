//! `POST /assets`

use super::ASSETS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Page, Parameters, Reply};
use axum::extract::State;
use edict_client::records::Asset;
use serde_json::Value;
use serde_json::value::RawValue;

/// Finds assets with a Mongo-style filter.
#[utoipa::path(
    post,
    path = "/assets",
    tag = "assets",
    params(Page),
    request_body(content = Object, example = json!({"asset_tags": "policy"})),
    responses((status = 200, body = Reply<Vec<Asset>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(page): Parameters<Page>,
    Body(filter): Body<Value>,
) -> Result<Data<Vec<Box<RawValue>>>, ApiError> {
    let (found, more) = ASSETS.query(&app.registry.store, &filter, &page).await?;
    Ok(Data::new(found).has_more(more))
}
