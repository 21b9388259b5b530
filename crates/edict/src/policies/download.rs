//! `GET /policy/<policy_rule_uri>/code`

use super::code;
use super::registry::Registry;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::Path;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Returns a policy's code as it was registered: an archive, or the text of `function.py`. The header
/// `x-edict-code-digest` holds the SHA-256 of the body, `x-edict-code-format` is `source`, `zip`, `tar.xz` or `tar.gz`.
#[utoipa::path(
    get,
    path = "/policy/{policy_rule_uri}/code",
    tag = "policies",
    params(("policy_rule_uri" = String, Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = ErrorBody)
    )
)]
pub(crate) async fn download(
    _: Viewer,
    State(app): State<App>,
    Path(uri): Path<String>,
) -> Result<Response, ApiError> {
    let digest = code::pin(&app.registry, &uri).await?;
    send(&app.registry, &digest).await
}

/// The stored code with this digest.
pub(crate) async fn send(registry: &Registry, digest: &str) -> Result<Response, ApiError> {
    let (format, bytes) = registry
        .bundle(digest)
        .await?
        .ok_or_else(|| ApiError::internal(format!("the code {digest} of a policy is not stored")))?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        ("x-edict-code-digest", digest.to_owned()),
        ("x-edict-code-format", format),
    ];
    Ok((headers, bytes).into_response())
}
