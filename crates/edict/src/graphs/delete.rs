//! `DELETE /graphs/<graph_uri>`

use super::GRAPHS;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, IfMatch, Path, Reply};
use axum::extract::State;
use edict_client::records::Graph;
use serde_json::value::RawValue;

/// Removes a graph and returns what it was. Its functions and its recorded runs stay.
#[utoipa::path(
    delete,
    path = "/graphs/{graph_uri}",
    tag = "graphs",
    params(("graph_uri" = String, Path), IfMatch),
    responses((status = 200, body = Reply<Graph>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn delete(
    _: Admin,
    State(app): State<App>,
    if_match: IfMatch,
    Path(uri): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let store = &app.registry.store;
    let document = GRAPHS.get(store, &uri).await?;
    if_match.check(document.revision)?;
    let mut tx = store.begin().await?;
    if !GRAPHS.delete(&mut tx, &uri, if_match.0).await? {
        return Err(GRAPHS.missing(&uri));
    }
    tx.commit().await?;
    app.graphs.forget(&uri);
    Ok(Data::new(document.doc))
}
