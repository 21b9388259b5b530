//! `PUT /graphs/<graph_uri>`

use super::{GRAPHS, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, IfMatch, Path, Reply};
use crate::store::StoreError;
use crate::store::documents::{changed, invalid_update, refuse_own_fields, to_document};
use axum::extract::State;
use edict_client::records::Graph;
use edict_filter::Update;
use serde_json::Value;

/// Replaces a graph, or changes it with update operators. Runs that have begun end as they began.
#[utoipa::path(
    put,
    path = "/graphs/{graph_uri}",
    tag = "graphs",
    params(("graph_uri" = String, Path), IfMatch),
    request_body(content = Object, example = json!({"$set": {"graph_version": "2.0"}})),
    responses((status = 200, body = Reply<Graph>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn update(
    _: Admin,
    State(app): State<App>,
    Path(uri): Path<String>,
    if_match: IfMatch,
    Body(payload): Body<Value>,
) -> Result<Data<Graph>, ApiError> {
    let change = Update::parse(&payload).map_err(invalid_update)?;
    refuse_own_fields(change.as_ref(), GRAPHS.own_fields)?;
    let store = &app.registry.store;
    let mut tx = store.begin().await?;
    let document = GRAPHS.lock(&mut tx, store.dialect(), &uri).await?;
    if_match.check(document.revision)?;
    let old: Graph = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    let (new, _) = record::from_payload(changed(&old, change.as_ref(), &payload)?, Some(&old))?;
    record::check_functions_in(&mut tx, &new).await?;
    let (to, doc) = (new.graph_uri.as_str(), to_document(&new)?);
    match GRAPHS.replace(&mut tx, store.dialect(), (&uri, document.revision), (to, &doc)).await {
        Err(StoreError::Exists) => return Err(GRAPHS.taken(to)),
        Ok(false) => return Err(GRAPHS.contended(&uri)),
        Ok(true) => {}
        Err(error) => return Err(error.into()),
    }
    tx.commit().await?;
    app.graphs.forget(&uri);
    app.graphs.forget(to);
    let moved = (to != uri).then(|| to.to_owned());
    let revision = new.revision;
    Ok(Data::new(new).revision(revision).moved_to(moved))
}
