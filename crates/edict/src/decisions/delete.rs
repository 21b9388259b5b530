//! `DELETE /api/v1/policy/{id}`

use super::DECISION_POLICIES;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{IfMatch, Path};
use axum::Json;
use axum::extract::State;
use edict_client::records::DecisionPolicy;
use serde_json::value::RawValue;

/// Removes a decision policy, which is out of force when the reply leaves. Returns what it was.
#[utoipa::path(
    delete,
    path = "/api/v1/policy/{id}",
    tag = "decisions",
    params(("id" = String, Path, description = "Its id or its name."), IfMatch),
    responses((status = 200, body = DecisionPolicy), (status = "default", body = ErrorBody))
)]
pub(crate) async fn delete(
    _: Admin,
    State(app): State<App>,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    let decisions = &app.decisions;
    let key = decisions.changeable(&id).await?;
    let mut tx = decisions.begin().await?;
    let document = DECISION_POLICIES.lock(&mut tx, decisions.store.dialect(), &key).await?;
    if_match.check(document.revision)?;
    DECISION_POLICIES.delete(&mut tx, &key, None).await?;
    let change = decisions.change();
    tx.commit().await?;
    change.in_force().await?;
    Ok(Json(document.doc))
}
