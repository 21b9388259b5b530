//! `GET` and `PATCH /executor/<executor_id>/policy_state/<policy_rule_uri>`

use super::EXECUTORS;
use crate::app::App;
use crate::auth::{Operator, Viewer};
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Path, Reply};
use axum::extract::State;
use edict_client::records::PolicyState;

/// Returns what management commands changed of a policy on an executor.
#[utoipa::path(
    get,
    path = "/executor/{executor_id}/policy_state/{policy_rule_uri}",
    tag = "executors",
    params(("executor_id" = String, Path), ("policy_rule_uri" = String, Path)),
    responses((status = 200, body = Reply<PolicyState>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read_state(
    _: Viewer,
    State(app): State<App>,
    Path((id, uri)): Path<(String, String)>,
) -> Result<Data<PolicyState>, ApiError> {
    Ok(Data::new(app.registry.state(&id, &uri).await?))
}

/// Keeps what a management command changed of a policy on an executor, over what earlier ones did.
#[utoipa::path(
    patch,
    path = "/executor/{executor_id}/policy_state/{policy_rule_uri}",
    tag = "executors",
    params(("executor_id" = String, Path), ("policy_rule_uri" = String, Path)),
    request_body = PolicyState,
    responses((status = 200, body = Reply<PolicyState>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn change_state(
    _: Operator,
    State(app): State<App>,
    Path((id, uri)): Path<(String, String)>,
    Body(change): Body<PolicyState>,
) -> Result<Data<PolicyState>, ApiError> {
    if EXECUTORS.find(&app.registry.store, &id).await?.is_none() {
        return Err(EXECUTORS.missing(&id));
    }
    app.registry.policy(&uri).await?;
    app.registry.save_state(&id, &uri, change).await?;
    Ok(Data::new(app.registry.state(&id, &uri).await?))
}
