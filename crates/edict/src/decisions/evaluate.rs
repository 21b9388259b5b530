//! `POST /api/v1/policy/evaluate` and `GET /api/v1/policy/evaluate`

use super::Origin;
use super::decide::{Asked, parse, refused};
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Parameters, RawBody};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use edict_client::records::{Decision, DecisionRequest, Object};
use edict_engine::Request;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;

/// What to answer.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Say of every decision policy why it did or did not apply (`considered`).
    #[serde(default)]
    pub(super) explain: bool,
}

/// Decides whether an action is allowed.
#[utoipa::path(
    post,
    path = "/api/v1/policy/evaluate",
    tag = "decisions",
    params(Options),
    request_body = DecisionRequest,
    responses((status = 200, body = Decision), (status = "default", body = ErrorBody))
)]
pub(crate) async fn evaluate(
    _: Operator,
    State(app): State<App>,
    Parameters(options): Parameters<Options>,
    origin: Origin,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    answer(&app, parse(&body)?, options, &origin).await
}

/// The same for a request in query parameters.
#[utoipa::path(
    get,
    path = "/api/v1/policy/evaluate",
    tag = "decisions",
    params(
        Options,
        ("action" = String, Query),
        ("resource" = String, Query),
        ("type" = String, Query),
        ("userId" = Option<String>, Query),
        ("role" = Option<String>, Query),
        ("roles" = Option<String>, Query, description = "Several, separated by commas or one each."),
        ("ipAddress" = Option<String>, Query, description = "The caller's own when left out."),
        ("userAgent" = Option<String>, Query, description = "The caller's own when left out."),
        ("metadata" = Option<String>, Query, description = "A JSON object; or one field each as `metadata.<name>`.")
    ),
    responses((status = 200, body = Decision), (status = "default", body = ErrorBody))
)]
pub(crate) async fn evaluate_parameters(
    _: Operator,
    State(app): State<App>,
    Parameters(parameters): Parameters<Vec<(String, String)>>,
    origin: Origin,
) -> Result<Response, ApiError> {
    let (request, options) = from_parameters(parameters)?;
    answer(&app, Asked::new(request)?, options, &origin).await
}

async fn answer(
    app: &App,
    asked: Asked<'_>,
    options: Options,
    origin: &Origin,
) -> Result<Response, ApiError> {
    let decisions = &app.decisions;
    let force = decisions.in_force();
    if options.explain {
        return reply(&decisions.explain(&force, asked, origin).await?);
    }
    reply(&decisions.decide(&force, asked, origin).await?)
}

/// Writes a reply straight from what borrows from the policies that decided.
pub(super) fn reply(answer: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(answer).map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

const KNOWN: [&str; 10] = [
    "action",
    "resource",
    "type",
    "userId",
    "role",
    "roles",
    "ipAddress",
    "userAgent",
    "metadata",
    "explain",
];

fn from_parameters(parameters: Vec<(String, String)>) -> Result<(Request<'static>, Options), ApiError> {
    let (mut texts, mut metadata, mut roles) = (Object::new(), Object::new(), Vec::new());
    for (name, value) in parameters {
        let twice = || invalid(&name, "is there twice");
        if let Some(field) = name.strip_prefix("metadata.") {
            if metadata.insert(field.to_owned(), scalar(value)).is_some() {
                return Err(twice());
            }
            continue;
        }
        if !KNOWN.contains(&name.as_str()) {
            return Err(unknown(&name));
        }
        match name.as_str() {
            "roles" => roles.extend(value.split(',').map(|role| Value::from(role.trim()))),
            "metadata" => {
                let fields = serde_json::from_str::<Object>(&value).map_err(|_| {
                    invalid("metadata", "is not a JSON object; or give `metadata.<name>=<value>`")
                })?;
                for (field, value) in fields {
                    if metadata.insert(field, value).is_some() {
                        return Err(twice());
                    }
                }
            }
            _ => {
                if texts.insert(name.clone(), Value::String(value)).is_some() {
                    return Err(twice());
                }
            }
        }
    }
    let mut take = |name: &str| match texts.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(invalid(name, "is missing")),
    };
    let explain = match take("explain").as_deref() {
        Ok("true") => true,
        Ok("false") | Err(_) => false,
        Ok(_) => return Err(invalid("explain", "must be true or false")),
    };
    let (action, resource, kind) = (take("action")?, take("resource")?, take("type")?);
    let mut context = texts;
    if !roles.is_empty() {
        context.insert("roles".to_owned(), Value::Array(roles));
    }
    if !metadata.is_empty() {
        context.insert("metadata".to_owned(), Value::Object(metadata));
    }
    let request = Request::new(action, resource, kind, context).map_err(refused)?;
    Ok((request, Options { explain }))
}

/// Numbers, true, false and null are what they look like in JSON, so that operators can compare them; `"5"` in quotes
/// is text.
pub(crate) fn scalar(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Value::String(text),
        Ok(value) => value,
    }
}

fn invalid(name: &str, problem: &str) -> ApiError {
    let name = crate::shorten(name);
    ApiError::new(Code::InvalidParameter, format!("query parameter `{name}` {problem}"))
}

fn unknown(name: &str) -> ApiError {
    let hint = crate::nearest(name, KNOWN.into_iter());
    let hint = hint.map_or_else(
        || "; fields of the metadata are `metadata.<name>`, and a POST takes any context".to_owned(),
        |name| format!("; did you mean `{name}`?"),
    );
    invalid(name, &format!("is not known{hint}"))
}
