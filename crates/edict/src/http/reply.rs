//! Replies: `{"success": true, "data": …}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Shape of a successful reply.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reply<T> {
    /// Always true.
    #[schema(example = true)]
    success: bool,
    data: T,
    /// What was accepted, but may not be what the caller wants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// The record's new address, when an update changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to: Option<String>,
    /// Whether a query has more results than were returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_more: Option<bool>,
}

/// A successful reply being put together.
pub(crate) struct Data<T> {
    body: Reply<T>,
    status: StatusCode,
    revision: Option<u64>,
}

impl<T> Data<T> {
    pub(crate) fn new(data: T) -> Self {
        let body = Reply { success: true, data, warnings: Vec::new(), moved_to: None, has_more: None };
        Self { body, status: StatusCode::OK, revision: None }
    }

    pub(crate) fn warnings(mut self, warnings: Vec<String>) -> Self {
        self.body.warnings = warnings;
        self
    }

    pub(crate) fn moved_to(mut self, uri: Option<String>) -> Self {
        self.body.moved_to = uri;
        self
    }

    pub(crate) fn has_more(mut self, more: bool) -> Self {
        self.body.has_more = Some(more);
        self
    }

    /// Sends the record's revision as `ETag`, ready for `If-Match`.
    pub(crate) fn revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(etag) = self.revision.and_then(etag) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

/// A revision as an entity tag.
fn etag(revision: u64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{revision}\"")).ok()
}

/// Paging, sorting and projection of a query.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// Records to return, 1 to 10000; 1000 when left out. `has_more` in the reply says whether there are others.
    pub(crate) limit: Option<u32>,
    /// Records to pass over first.
    pub(crate) skip: Option<u32>,
    /// Fields to sort by, for example `name,-created_at`.
    pub(crate) sort: Option<String>,
    /// Fields to return, for example `name,metadata.author_name`; all when left out.
    pub(crate) fields: Option<String>,
}
