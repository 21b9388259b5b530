//! `POST /executor/generate-signature`

use super::request::Request;
use super::signature;
use crate::app::App;
use crate::auth::Admin;
use crate::decisions::Origin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::RawBody;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use edict_client::records::{ExecuteAction, GeneratedSignature};

/// What proxies add. One on this machine passes on requests from anywhere, which then seem to come from here.
const PASSED_ON: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Signs a request with the server's own key, for trying things out on the machine that the server runs on: it exists
/// only on a server that listens on loopback, for callers on the same machine.
#[utoipa::path(
    post,
    path = "/executor/generate-signature",
    tag = "actions",
    request_body = ExecuteAction,
    responses((status = 200, body = GeneratedSignature), (status = "default", body = ErrorBody))
)]
pub(crate) async fn generate_signature(
    _: Admin,
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<GeneratedSignature>, ApiError> {
    let peer_is_local = origin.ip.is_some_and(|ip| ip.is_loopback());
    let passed_on =
        PASSED_ON.iter().any(|name| headers.contains_key(*name)) || headers.contains_key(header::VIA);
    if !app.settings.bind.is_loopback() || !peer_is_local || passed_on {
        return Err(missing(
            "signatures are made only for callers on the machine of a server that listens on loopback",
        ));
    }
    let Some(key) = app.settings.jwt_secret.given() else {
        return Err(missing(
            "this server has no `jwt_secret` (JWT_SECRET), so that there is nothing to sign with",
        ));
    };
    let request = Request::read(&body)?;
    let (payload, signature) = signature::sign(key, &request.usual());
    Ok(Json(GeneratedSignature { signature, payload }))
}

fn missing(why: &str) -> ApiError {
    ApiError::new(
        Code::RouteNotFound,
        format!("{why}; sign with `edict action`, the SDK, or your own program"),
    )
}
