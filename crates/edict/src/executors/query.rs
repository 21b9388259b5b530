//! `POST /executor/query`

use super::{EXECUTORS, alias};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Page, Parameters, Reply};
use axum::extract::State;
use edict_client::records::Executor;
use serde_json::Value;
use serde_json::value::RawValue;

/// Finds executors with a Mongo-style filter.
#[utoipa::path(
    post,
    path = "/executor/query",
    tag = "executors",
    params(Page),
    request_body(content = Object, example = json!({"executor_hardware_info.vcpus.count": {"$gte": 16}})),
    responses((status = 200, body = Reply<Vec<Executor>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(page): Parameters<Page>,
    Body(filter): Body<Value>,
) -> Result<Data<Vec<Box<RawValue>>>, ApiError> {
    let (found, more) = EXECUTORS.query(&app.registry.store, &alias::in_filter(filter), &page).await?;
    Ok(Data::new(found).has_more(more))
}
