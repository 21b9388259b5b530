//! `GET /graphs/<graph_uri>`

use super::GRAPHS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::Graph;
use serde_json::value::RawValue;

/// Returns a graph.
#[utoipa::path(
    get,
    path = "/graphs/{graph_uri}",
    tag = "graphs",
    params(("graph_uri" = String, Path, example = "ip_risk_analysis:1.0-stable")),
    responses((status = 200, body = Reply<Graph>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(uri): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let document = GRAPHS.get(&app.registry.store, &uri).await?;
    Ok(Data::new(document.doc).revision(document.revision))
}
