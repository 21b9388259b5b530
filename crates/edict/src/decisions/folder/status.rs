//! `GET /api/v1/policy/folder`

use crate::app::App;
use crate::auth::Viewer;
use crate::error::ErrorBody;
use axum::Json;
use axum::extract::State;
use edict_client::records::DecisionFolder;
use std::sync::PoisonError;

/// Tells whether the decision policies in force are those that the watched folder holds.
#[utoipa::path(
    get,
    path = "/api/v1/policy/folder",
    tag = "decisions",
    responses((status = 200, body = DecisionFolder), (status = "default", body = ErrorBody))
)]
pub(crate) async fn folder(_: Viewer, State(app): State<App>) -> Json<DecisionFolder> {
    let folder = &app.decisions.folder;
    let force = app.decisions.in_force();
    let error = folder.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let error = error.or_else(|| force.clash.clone());
    Json(DecisionFolder {
        watched: folder.dir.is_some(),
        ok: error.is_none(),
        error,
        policies: force.folder.policies.len() as u64,
        loaded_at: force.folder.at.clone(),
    })
}
