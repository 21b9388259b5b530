//! `POST /function/query`

use super::FUNCTIONS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Page, Parameters, Reply};
use axum::extract::State;
use edict_client::records::Function;
use serde_json::Value;
use serde_json::value::RawValue;

/// Finds functions with a Mongo-style filter.
#[utoipa::path(
    post,
    path = "/function/query",
    tag = "functions",
    params(Page),
    request_body(content = Object, example = json!({"function_tags": {"$in": ["network"]}})),
    responses((status = 200, body = Reply<Vec<Function>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(page): Parameters<Page>,
    Body(filter): Body<Value>,
) -> Result<Data<Vec<Box<RawValue>>>, ApiError> {
    let (found, more) = FUNCTIONS.query(&app.registry.store, &filter, &page).await?;
    Ok(Data::new(found).has_more(more))
}
