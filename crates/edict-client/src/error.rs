//! What can go wrong between a program and the server.

use serde_json::Value;
use std::time::Duration;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server understood the call and refused it, or could not carry it out.
    #[error(transparent)]
    Api(Box<ApiError>),
    /// No reply arrived: nothing listens there, the name is unknown, the connection broke or took too long.
    #[error("cannot reach `{url}`: {reason}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What stood in the way, and what to do about it.
        reason: String,
        /// The error below, if there is one (there is none when the client stopped waiting by itself).
        #[source]
        source: Option<reqwest::Error>,
    },
    /// Something replied, but not in Edict's shapes: a proxy's error page, or another program's port.
    #[error(
        "`{url}` answered {status}, but not as edict does ({reason}); check the address and what stands in between"
    )]
    NotEdict {
        /// What was asked for.
        url: String,
        /// The reply's HTTP status.
        status: u16,
        /// What does not fit.
        reason: String,
    },
    /// The call was not made because something given to the client cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// A refusal or failure, in the server's own words.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Stable, for example `policy_not_found`.
    pub code: String,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// More for programs, for example one entry per field at fault; null when there is none.
    pub details: Value,
    /// Finds the call in the server's logs.
    pub request_id: Option<String>,
    /// How long to wait before the call is worth repeating.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// The server's refusal, if that is what this is.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the server said that the record does not exist.
    pub fn is_not_found(&self) -> bool {
        self.api().is_some_and(|error| error.status == 404)
    }

    /// Whether the server said that the record exists already, or that its revision is another one by now.
    pub fn is_conflict(&self) -> bool {
        self.api().is_some_and(|error| matches!(error.status, 409 | 412))
    }
}
