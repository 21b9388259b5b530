//! `POST /function/<function_id>/token`

use super::FUNCTIONS;
use crate::app::App;
use crate::auth::{Operator, Scope};
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::{Function, FunctionToken};

/// Makes a token for a function's replicas, which their executor gives them: good for that function only, until it is
/// removed.
#[utoipa::path(
    post,
    path = "/function/{function_id}/token",
    tag = "functions",
    params(("function_id" = String, Path)),
    responses((status = 200, body = Reply<FunctionToken>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn token(
    _: Operator,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Data<FunctionToken>, ApiError> {
    let document = FUNCTIONS.get(&app.registry.store, &name).await?;
    let function: Function = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    let token = app.scopes.mint(&Scope::Function { name, created_at: function.created_at });
    Ok(Data::new(FunctionToken { token }))
}
