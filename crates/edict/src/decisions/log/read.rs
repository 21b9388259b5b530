//! `GET /api/v1/policy/audit/logs/<decision_id>`

use super::row;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::Path;
use crate::store::Statement;
use axum::Json;
use axum::extract::State;
use edict_client::records::LoggedDecision;
use uuid::Uuid;

/// Returns a recorded decision.
#[utoipa::path(
    get,
    path = "/api/v1/policy/audit/logs/{decision_id}",
    tag = "log",
    params(("decision_id" = String, Path)),
    responses((status = 200, body = LoggedDecision), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(decision_id): Path<String>,
) -> Result<Json<LoggedDecision>, ApiError> {
    let missing = |hint: &str| {
        let shown = crate::shorten(&decision_id);
        ApiError::new(Code::DecisionNotFound, format!("no decision `{shown}` is recorded{hint}"))
    };
    // The table has ids in one spelling; a text that is none is no decision's.
    let id: Uuid = decision_id.parse().map_err(|_| missing(""))?;
    let pending = app.decision_log.catch_up().await?;
    let sql = format!("{} WHERE id = $1", row::SELECT);
    let found =
        app.registry.store.fetch_one::<row::Columns>(Statement::new(sql).bind(id.to_string())).await?;
    let hint =
        pending.map_or(String::new(), |pending| format!(" yet; {pending} are on their way, try again"));
    Ok(Json(row::show(found.ok_or_else(|| missing(&hint))?)?))
}
