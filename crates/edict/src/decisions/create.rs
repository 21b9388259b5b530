//! `POST /api/v1/policy`

use super::{DECISION_POLICIES, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::Body;
use crate::store::StoreError;
use crate::store::documents::to_document;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use edict_client::records::{DecisionPolicy, Object, StoredDecisionPolicy};

/// Creates a decision policy, which is in force when the reply leaves.
#[utoipa::path(
    post,
    path = "/api/v1/policy",
    tag = "decisions",
    request_body = DecisionPolicy,
    responses((status = 201, body = StoredDecisionPolicy), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create(
    _: Admin,
    State(app): State<App>,
    Body(payload): Body<Object>,
) -> Result<Response, ApiError> {
    let decisions = &app.decisions;
    let policy = record::new(record::policy(payload)?);
    decisions.check_free(&policy.name)?;
    let mut tx = decisions.begin().await?;
    match DECISION_POLICIES
        .insert(&mut tx, decisions.store.dialect(), &policy.id, &to_document(&policy)?)
        .await
    {
        Err(StoreError::Exists) => return Err(record::taken(&policy.name)),
        done => done?,
    }
    let change = decisions.change();
    tx.commit().await?;
    change.in_force().await?;
    let warnings = decisions.warnings(std::iter::once(&policy)).await?;
    Ok((StatusCode::CREATED, stored(policy, warnings)).into_response())
}

/// The reply with a record that was created or changed.
pub(super) fn stored(policy: DecisionPolicy, warnings: Vec<String>) -> impl IntoResponse {
    let etag = super::read::etag(policy.revision);
    (etag, Json(StoredDecisionPolicy { policy, warnings }))
}
