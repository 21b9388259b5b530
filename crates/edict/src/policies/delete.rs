//! `DELETE /policy/<policy_rule_uri>`

use super::POLICIES;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, IfMatch, Path, Reply};
use crate::store::Statement;
use axum::extract::State;
use edict_client::records::Policy;
use serde_json::value::RawValue;

/// Removes a policy, with its context and what management commands changed of it. Returns what it was.
#[utoipa::path(
    delete,
    path = "/policy/{policy_rule_uri}",
    tag = "policies",
    params(("policy_rule_uri" = String, Path), IfMatch),
    responses((status = 200, body = Reply<Policy>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn delete(
    _: Admin,
    State(app): State<App>,
    if_match: IfMatch,
    Path(uri): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let registry = &app.registry;
    let document = POLICIES.get(&registry.store, &uri).await?;
    if_match.check(document.revision)?;
    let mut tx = registry.store.begin().await?;
    if !POLICIES.delete(&mut tx, &uri, if_match.0).await? {
        return Err(POLICIES.missing(&uri));
    }
    tx.execute(Statement::new("DELETE FROM context WHERE scope = $1").bind(uri.as_str())).await?;
    tx.execute(Statement::new("DELETE FROM policy_states WHERE policy_rule_uri = $1").bind(uri.as_str()))
        .await?;
    tx.commit().await?;
    registry.forget(&uri);
    Ok(Data::new(document.doc))
}
