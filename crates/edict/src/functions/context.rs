//! `POST /function/<function_id>/context`

use super::FUNCTIONS;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Path};
use crate::policies::context::carry_out;
use axum::extract::State;
use edict_client::records::ContextOp;
use serde_json::Value;

/// In front of a function's name, the name under which its context is kept. No policy's URI holds a slash.
const SCOPE: &str = "function/";

/// The name under which a function's context is kept.
pub(crate) fn scope(name: &str) -> String {
    format!("{SCOPE}{name}")
}

/// The function whose context is kept under this name, if it is one's.
pub(crate) fn owner(scope: &str) -> Option<&str> {
    scope.strip_prefix(SCOPE)
}

/// Carries out one operation on a function's context. What comes back depends on the operation, see `ContextOp`.
#[utoipa::path(
    post,
    path = "/function/{function_id}/context",
    tag = "functions",
    params(("function_id" = String, Path)),
    request_body = ContextOp,
    responses((status = 200, body = Reply<Object>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn operate(
    _: Operator,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(operation): Body<ContextOp>,
) -> Result<Data<Value>, ApiError> {
    let store = &app.registry.store;
    FUNCTIONS.get(store, &name).await?;
    Ok(Data::new(carry_out(store, &scope(&name), operation).await?))
}
