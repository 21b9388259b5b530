//! `PATCH /api/v1/policy/{id}`

use super::create::stored;
use super::{DECISION_POLICIES, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, IfMatch, Path};
use crate::store::StoreError;
use crate::store::documents::to_document;
use axum::extract::State;
use axum::response::IntoResponse;
use edict_client::records::{Object, StoredDecisionPolicy};
use serde_json::Value;

/// Changes fields of a decision policy: those that are named, as a whole; null takes a field back to its default. It is
/// in force when the reply leaves.
#[utoipa::path(
    patch,
    path = "/api/v1/policy/{id}",
    tag = "decisions",
    params(("id" = String, Path, description = "Its id or its name."), IfMatch),
    request_body(content = Object, example = json!({"priority": 200, "isActive": false})),
    responses((status = 200, body = StoredDecisionPolicy), (status = "default", body = ErrorBody))
)]
pub(crate) async fn update(
    _: Admin,
    State(app): State<App>,
    if_match: IfMatch,
    Path(id): Path<String>,
    Body(changes): Body<Object>,
) -> Result<impl IntoResponse, ApiError> {
    let decisions = &app.decisions;
    let dialect = decisions.store.dialect();
    let key = decisions.changeable(&id).await?;
    let mut tx = decisions.begin().await?;
    let document = DECISION_POLICIES.lock(&mut tx, dialect, &key).await?;
    if_match.check(document.revision)?;
    let old: Object = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    let text = |field: &str| old.get(field).and_then(Value::as_str).map(str::to_owned);
    let policy = record::policy(merged(old.clone(), changes))?;
    let policy = record::next(policy, &key, text("createdAt"), document.revision);
    if text("name").as_deref() != Some(&policy.name) {
        decisions.check_free(&policy.name)?;
    }
    let from = (key.as_str(), document.revision);
    match DECISION_POLICIES.replace(&mut tx, dialect, from, (&key, &to_document(&policy)?)).await {
        Err(StoreError::Exists) => return Err(record::taken(&policy.name)),
        Ok(false) => return Err(DECISION_POLICIES.contended(&id)),
        done => drop(done?),
    }
    let change = decisions.change();
    tx.commit().await?;
    change.in_force().await?;
    let warnings = decisions.warnings(std::iter::once(&policy)).await?;
    Ok(stored(policy, warnings))
}

fn merged(mut fields: Object, changes: Object) -> Object {
    for (field, value) in changes {
        match value {
            Value::Null => fields.remove(&field),
            value => fields.insert(field, value),
        };
    }
    fields
}
