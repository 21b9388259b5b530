//! `GET /graph/runs/<run_id>`

use super::RUNS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::GraphRun;
use serde_json::value::RawValue;

/// Returns a recorded run.
#[utoipa::path(
    get,
    path = "/graph/runs/{run_id}",
    tag = "graphs",
    params(("run_id" = String, Path)),
    responses((status = 200, body = Reply<GraphRun>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read_run(
    _: Viewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    app.graphs.flush().await?;
    Ok(Data::new(RUNS.get(&app.registry.store, &id).await?.doc))
}
