//! `GET /function/<function_id>/code`

use super::FUNCTIONS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::Path;
use axum::extract::State;
use axum::response::Response;
use edict_client::records::Function;

/// Returns the code that a function's replicas run, as [`GET /policy/<uri>/code`](crate::policies::download) does for a
/// policy. The policy may have other code by now, or be gone.
#[utoipa::path(
    get,
    path = "/function/{function_id}/code",
    tag = "functions",
    params(("function_id" = String, Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = ErrorBody)
    )
)]
pub(crate) async fn download(
    _: Viewer,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let document = FUNCTIONS.get(&app.registry.store, &name).await?;
    let function: Function = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    let digest = function.function_policy_data.get("code_digest").and_then(|digest| digest.as_str());
    crate::policies::download::send(&app.registry, digest.unwrap_or_default()).await
}
