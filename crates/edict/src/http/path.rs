//! The variable parts of a path.

use crate::error::{ApiError, Code};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// The variable parts of a path, decoded.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let invalid =
            |problem: &str| Err(ApiError::new(Code::InvalidParameter, format!("the path {problem}")));
        // No record has such a name, and PostgreSQL takes no text that holds one.
        if parts.uri.path().contains("%00") {
            return invalid("holds a NUL character");
        }
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(_) => invalid("is not UTF-8 text when its `%` signs are decoded"),
        }
    }
}
