//! Reading replies: the envelope, refusals, and what is not Edict's at all.

use super::Stored;
use crate::records::{ActionReply, LogRecord, ReplicaAnswer};
use crate::{ApiError, Error};
use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// A reply that succeeded; what a route doesn't send has its default.
#[derive(Debug, Deserialize)]
pub(super) struct Reply<T> {
    pub(super) data: T,
    #[serde(default)]
    pub(super) warnings: Vec<String>,
    #[serde(default)]
    pub(super) moved_to: Option<String>,
    #[serde(default)]
    pub(super) has_more: bool,
    #[serde(default)]
    pub(super) logs: Option<Vec<LogRecord>>,
    #[serde(default)]
    pub(super) replicas: Vec<ReplicaAnswer>,
}

impl<T> Reply<T> {
    pub(super) fn stored(self) -> Stored<T> {
        Stored { record: self.data, warnings: self.warnings, moved_to: self.moved_to }
    }
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
    error: RefusalCode,
}

#[derive(Deserialize)]
struct RefusalCode {
    code: String,
    #[serde(default)]
    details: Value,
}

/// Passes a reply on if it succeeded, and turns it into an error if not.
pub(super) async fn refused(response: Response, server: &str) -> Result<Response, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    refusal(response, server, |_| None).await
}

/// Reads the action executor's reply, which tells of refused actions in the same shape as of others.
pub(super) async fn action(response: Response, server: &str) -> Result<ActionReply, Error> {
    if response.status().is_success() {
        return read(response, server).await;
    }
    refusal(response, server, |body| serde_json::from_slice(body).ok()).await
}

/// Turns a reply that did not succeed into an error, unless its body is an `answer`.
async fn refusal<T>(
    response: Response,
    server: &str,
    answer: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, Error> {
    let status = response.status();
    let url = response.url().to_string();
    let request_id = header(response.headers(), "x-request-id").map(str::to_owned);
    let retry_after = header(response.headers(), RETRY_AFTER.as_str())
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs);
    let body = response.bytes().await.map_err(|error| unreachable(server, error))?;
    if let Some(answer) = answer(&body) {
        return Ok(answer);
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(Refusal { message, error: RefusalCode { code, details } }) => {
            Err(Error::Api(Box::new(ApiError {
                status: status.as_u16(),
                code,
                message,
                details,
                request_id,
                retry_after,
            })))
        }
        Err(error) => Err(not_edict(url, status.as_u16(), &error)),
    }
}

/// Reads the body of a reply that succeeded: for most routes a [`Reply`].
pub(super) async fn read<T: DeserializeOwned>(response: Response, server: &str) -> Result<T, Error> {
    let url = response.url().to_string();
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|error| unreachable(server, error))?;
    serde_json::from_slice(&body).map_err(|error| not_edict(url, status, &error))
}

/// A header's text, unless it is missing or isn't text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// No reply, or one that broke off.
pub(super) fn unreachable(server: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let reason = if error.is_timeout() {
        "it took too long; try again, or allow more time".to_owned()
    } else if error.is_connect() {
        format!("{}; check that the server runs and that this is its address", innermost(&error))
    } else {
        innermost(&error)
    };
    Error::Unreachable { url: server.to_owned(), reason, source: Some(error) }
}

/// The innermost cause says what happened ("connection refused"); the layers around it only where.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A reply that is not in Edict's shapes.
pub(super) fn not_edict(url: String, status: u16, error: &serde_json::Error) -> Error {
    let reason = if error.is_data() {
        format!("the JSON does not fit: {error}")
    } else {
        "the reply is not JSON".to_owned()
    };
    Error::NotEdict { url, status, reason }
}
