//! `GET /audit/logs/<audit_id>`

use super::entries;
use super::logs::Log;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::AuditLog;

/// Returns an action with its entries in the audit trail.
#[utoipa::path(
    get,
    path = "/audit/logs/{audit_id}",
    tag = "audit",
    params(("audit_id" = String, Path)),
    responses((status = 200, body = Reply<AuditLog>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Data<AuditLog>, ApiError> {
    let steps = entries::of_action(&app.registry.store, &id).await?;
    let log = Log::of(&steps).ok_or_else(|| missing(&id))?.record();
    Ok(Data::new(AuditLog { steps, ..log }))
}

pub(super) fn missing(id: &str) -> ApiError {
    ApiError::new(
        Code::AuditEntryNotFound,
        format!(
            "no action `{}` is in the audit trail, or it is older than `audit_retention_days`",
            crate::shorten(id)
        ),
    )
}
