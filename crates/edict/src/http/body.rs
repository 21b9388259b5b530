//! Request bodies and query parameters, with errors that name the field, the value and what to do.

use crate::app::BodyLimit;
use crate::error::{ApiError, Code};
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A JSON body of type `T`.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T>
where
    BodyLimit: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let BodyLimit(limit) = BodyLimit::from_ref(state);
        decode(&read(request, limit).await?).map(Self)
    }
}

/// A JSON body with a job's result, which may be larger than other bodies.
pub(crate) struct LargeBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for LargeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        /// A result of 16 MiB and a log of 1 MiB, of which every byte is written as `\u001b`.
        const LIMIT: usize = 128 << 20;
        decode(&read(request, LIMIT).await?).map(Self)
    }
}

/// A body as it came, for routes that pass it on; [`decode`] reads it.
pub(crate) struct RawBody(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for RawBody
where
    BodyLimit: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let BodyLimit(limit) = BodyLimit::from_ref(state);
        read(request, limit).await.map(Self)
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            Code::BodyTooLarge,
            format!("the body is larger than {} MiB; put large files into an asset", limit >> 20),
        )
        .details(json!({"limit_bytes": limit}))),
        Err(_) => Err(ApiError::new(Code::MalformedJson, "the body ended early; send it again")),
    }
}

/// Reads JSON text as `T`.
///
/// # Errors
/// 400: `malformed_json` when it is no JSON, `invalid_field` when it does not fit, naming the field.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, error.inner())
    })?;
    reader.end().map_err(|error| describe(".", &error))?;
    Ok(value)
}

fn describe(path: &str, error: &serde_json::Error) -> ApiError {
    use serde_json::error::Category;
    let at = json!({"line": error.line(), "column": error.column()});
    match error.classify() {
        Category::Data => {
            let problem = without_position(&error.to_string());
            if let Some((unknown, known)) = unknown_of(&problem) {
                return unknown_field(unknown, &known);
            }
            let field = if path == "." { "the body".to_owned() } else { format!("field `{path}`") };
            ApiError::new(Code::InvalidField, format!("{field}: {problem}")).details(json!({"field": path}))
        }
        Category::Eof => ApiError::new(
            Code::MalformedJson,
            "the body is not complete JSON: it ends too early (is the request empty?)",
        )
        .details(at),
        _ => ApiError::new(Code::MalformedJson, format!("the body is not valid JSON: {error}")).details(at),
    }
}

fn without_position(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// The name that a type does not know, and those that it does, out of what serde says: ``unknown field `a`, expected
/// one of `b`, `c` ``.
fn unknown_of(problem: &str) -> Option<(&str, Vec<&str>)> {
    let (unknown, rest) = problem.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    Some((unknown, rest.split('`').skip(1).step_by(2).collect()))
}

/// Reads a checked JSON object as a record, after the names of its fields have been compared with `known`.
///
/// # Errors
/// 400 `unknown_field` with the nearest known one, or `invalid_field`.
pub(crate) fn document<T: DeserializeOwned>(
    object: Map<String, Value>,
    known: &[&str],
) -> Result<T, ApiError> {
    if let Some(unknown) = object.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(unknown_field(unknown, known));
    }
    // PostgreSQL's `jsonb` holds none; refusing it for both databases keeps them alike.
    let nul = object.iter().find(|(_, value)| edict_filter::contains_nul(value));
    if let Some((name, _)) = nul {
        return Err(ApiError::new(
            Code::InvalidField,
            format!("field `{name}` holds a NUL character, which databases cannot store; remove it"),
        ));
    }
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, error.inner())
    })
}

fn unknown_field(unknown: &str, known: &[&str]) -> ApiError {
    let nearest = crate::nearest(unknown, known.iter().copied());
    let hint = nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    ApiError::new(Code::UnknownField, format!("unknown field `{}`{hint}", crate::shorten(unknown)))
        .details(json!({"field": crate::shorten(unknown), "nearest": nearest, "known": known}))
}

/// Query parameters of type `T`.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(query) => Ok(Self(query.0)),
            Err(rejection) => {
                let text = rejection.body_text();
                let problem = text.split_once(": ").map_or(text.as_str(), |(_, problem)| problem);
                Err(ApiError::new(Code::InvalidParameter, format!("query parameter: {problem}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_bodies_are_told_apart() {
        let code = |text: &[u8]| decode::<Value>(text).unwrap_err().code();
        assert_eq!(code(b""), Code::MalformedJson);
        assert_eq!(code(b"{\"a\":"), Code::MalformedJson);
        assert_eq!(code(b"{} x"), Code::MalformedJson);
        assert_eq!(code(&b"[".repeat(10_000)), Code::MalformedJson);
        let unknown = decode::<edict_client::records::Manage>(br#"{"policy_uri": "a:1-b", "action": "x"}"#)
            .unwrap_err();
        assert_eq!(unknown.code(), Code::UnknownField);
        assert!(unknown.message().ends_with("did you mean `policy_rule_uri`?"), "{}", unknown.message());
        assert_eq!(decode::<Map<String, Value>>(b"[1]").unwrap_err().code(), Code::InvalidField);
    }
}
