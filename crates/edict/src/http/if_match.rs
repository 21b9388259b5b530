//! Optimistic locking with `If-Match: <revision>`.

use crate::error::{ApiError, Code};
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

/// The revision that the caller expects, if the request names one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IfMatch(pub(crate) Option<u64>);

impl IfMatch {
    /// Refuses when the record has another revision than the caller expects.
    ///
    /// # Errors
    /// 412 `revision_conflict`.
    pub(crate) fn check(self, revision: u64) -> Result<(), ApiError> {
        match self.0 {
            Some(expected) if expected != revision => Err(ApiError::new(
                Code::RevisionConflict,
                format!("the record has revision `{revision}`, not `{expected}`: read it again and repeat the change"),
            )
            .details(json!({"revision": revision}))),
            _ => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let revision = text.trim_matches('"').parse().map_err(|_| {
            ApiError::new(
                Code::InvalidParameter,
                format!("header `If-Match` must be a revision such as `3`, got `{}`", crate::shorten(text)),
            )
        })?;
        Ok(Self(Some(revision)))
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            ParameterBuilder::new()
                .name("If-Match")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some("Refuse with 412 unless the record still has this revision."))
                .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
                .build(),
        ]
    }
}
