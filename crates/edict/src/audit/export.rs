//! `GET /audit/export`

use super::{entries, logs};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::Parameters;
use crate::store::{Statement, Store};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use edict_client::records::AuditEntry;
use futures::stream;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which part of the trail.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// From the first entry that was written at this time or later: RFC 3339, or how long ago, such as `24h`.
    since: Option<String>,
    /// Up to the last entry that was written before this time.
    until: Option<String>,
}

/// Returns the entries of the audit trail as they are hashed, a line of JSON each, the oldest first: what is needed to
/// verify them elsewhere. However many there are: they are sent as they are read.
#[utoipa::path(
    get,
    path = "/audit/export",
    tag = "audit",
    params(Part),
    responses(
        (status = 200, body = AuditEntry, content_type = "application/x-ndjson"),
        (status = "default", body = ErrorBody)
    )
)]
pub(crate) async fn export(
    _: Viewer,
    State(app): State<App>,
    Parameters(part): Parameters<Part>,
) -> Result<Response, ApiError> {
    let store = app.registry.store.clone();
    let from = match &part.since {
        None => 0,
        Some(since) => {
            let sql = "SELECT seq FROM audit_entries WHERE at >= $1 ORDER BY seq LIMIT 1";
            edge(&store, sql, logs::time("since", since)?).await?.unwrap_or(i64::MAX)
        }
    };
    let to = match &part.until {
        None => entries::head(&store).await?.map_or(i64::MAX, |head| head.seq),
        Some(until) => {
            let sql = "SELECT seq FROM audit_entries WHERE at < $1 ORDER BY seq DESC LIMIT 1";
            edge(&store, sql, logs::time("until", until)?).await?.unwrap_or(0)
        }
    };
    let lines = stream::try_unfold(from.saturating_sub(1), move |after| {
        let store = store.clone();
        async move { lines(&store, after, to).await }
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

async fn edge(store: &Store, sql: &str, at: i64) -> Result<Option<i64>, ApiError> {
    Ok(store.search::<(i64,)>(Statement::new(sql).bind(at)).await?.pop().map(|(seq,)| seq))
}

/// The next lines, and the number of the last entry among them; none at the end.
async fn lines(store: &Store, after: i64, to: i64) -> Result<Option<(Bytes, i64)>, ApiError> {
    let mut batch = entries::batch(store, after).await?;
    batch.retain(|entry| entry.seq <= to);
    let Some(last) = batch.last().map(|entry| entry.seq) else { return Ok(None) };
    let mut text = Vec::new();
    for entry in &batch {
        serde_json::to_writer(&mut text, entry).map_err(ApiError::internal)?;
        text.push(b'\n');
    }
    Ok(Some((text.into(), last)))
}
