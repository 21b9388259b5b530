//! `POST /graphs`

use super::{GRAPHS, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Reply};
use axum::extract::State;
use edict_client::records::{Graph, Object};

/// Registers a graph.
#[utoipa::path(
    post,
    path = "/graphs",
    tag = "graphs",
    request_body = Graph,
    responses((status = 200, body = Reply<Graph>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create(
    _: Admin,
    State(app): State<App>,
    Body(payload): Body<Object>,
) -> Result<Data<Graph>, ApiError> {
    let store = &app.registry.store;
    let (graph, _) = record::from_payload(payload, None)?;
    record::check_functions(store, &graph).await?;
    GRAPHS.create(store, &graph.graph_uri, &graph).await?;
    app.graphs.forget(&graph.graph_uri);
    Ok(Data::new(graph).revision(1))
}
