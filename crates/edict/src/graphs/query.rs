//! `POST /graphs/query`

use super::GRAPHS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Page, Parameters, Reply};
use axum::extract::State;
use edict_client::records::Graph;
use serde_json::Value;
use serde_json::value::RawValue;

/// Finds graphs with a Mongo-style filter.
#[utoipa::path(
    post,
    path = "/graphs/query",
    tag = "graphs",
    params(Page),
    request_body(content = Object, example = json!({"graph_search_tags": {"$in": ["security"]}, "graph_version": "1.0"})),
    responses((status = 200, body = Reply<Vec<Graph>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(page): Parameters<Page>,
    Body(filter): Body<Value>,
) -> Result<Data<Vec<Box<RawValue>>>, ApiError> {
    let (found, more) = GRAPHS.query(&app.registry.store, &filter, &page).await?;
    Ok(Data::new(found).has_more(more))
}
