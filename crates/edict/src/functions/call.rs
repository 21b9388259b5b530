//! `POST /function/call_function/<name>`

use super::route::PASSED_ON;
use super::route::moved;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::execution::check_depth;
use crate::http::{Path, RawBody, decode};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

/// Calls a function. The body is the input itself, any JSON; `data` of the reply is what `eval` returned.
#[utoipa::path(
    post,
    path = "/function/call_function/{name}",
    tag = "functions",
    params(("name" = String, Path)),
    request_body(content = Object, example = json!({"ip": "10.0.0.1"})),
    responses((status = 200, body = Reply<Object>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn call_function(
    _: Operator,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let input = input(&body)?;
    if headers.contains_key(PASSED_ON) {
        let service = app.functions.fleet.service(&name).ok_or_else(|| moved(&name))?;
        return Ok(output(&service.call(&input).await?));
    }
    Ok(output(&app.functions.call(&name, &input).await?))
}

/// A call's body, which is JSON and not too deep for Python's reader.
pub(super) fn input(body: &[u8]) -> Result<Box<RawValue>, ApiError> {
    let input: Box<RawValue> = decode(body)?;
    check_depth("the body", input.get())?;
    Ok(input)
}

/// A reply that holds what the policy returned as it is.
pub(super) fn output(data: &RawValue) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let data = data.get();
    let mut body = Vec::with_capacity(data.len() + 24);
    for part in [r#"{"success":true,"data":"#, data, "}"] {
        body.extend_from_slice(part.as_bytes());
    }
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}
