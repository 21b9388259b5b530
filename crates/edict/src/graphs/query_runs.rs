//! `POST /graph/runs/query`

use super::RUNS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Page, Parameters, Reply};
use axum::extract::State;
use edict_client::records::GraphRun;
use serde_json::Value;
use serde_json::value::RawValue;

/// Finds recorded runs with a Mongo-style filter.
#[utoipa::path(
    post,
    path = "/graph/runs/query",
    tag = "graphs",
    params(Page),
    request_body(content = Object, example = json!({"graph_uri": "ip_risk_analysis:1.0-stable", "run_status": "failed"})),
    responses((status = 200, body = Reply<Vec<GraphRun>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query_runs(
    _: Viewer,
    State(app): State<App>,
    Parameters(page): Parameters<Page>,
    Body(filter): Body<Value>,
) -> Result<Data<Vec<Box<RawValue>>>, ApiError> {
    app.graphs.flush().await?;
    let (found, more) = RUNS.query(&app.registry.store, &filter, &page).await?;
    Ok(Data::new(found).has_more(more))
}
