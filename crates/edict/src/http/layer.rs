//! The outermost layer: gives each request its id, logs and counts it.

use crate::error::Code;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use metrics::Histogram;
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// The request's id, for routes that pass it on.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self(new_id())))
    }
}

/// Runs a request under its id: the caller's own `x-request-id` if it is harmless, else a new one.
///
/// A server that leaves closes the connection with its reply, so that the caller's next request goes to another one.
pub(crate) async fn track(
    State(leaving): State<CancellationToken>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let given = request.headers().get(&RequestId::HEADER).filter(|value| harmless(value)).cloned();
    let id = given.unwrap_or_else(new_id);
    let method = request.method().clone();
    let uri = request.uri().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let (path, status) = (uri.path(), response.status().as_u16());
    let code = response.extensions().get::<Code>().map(|code| code.as_str());
    let _entered = span.enter();
    let milliseconds = elapsed.as_secs_f64() * 1e3;
    match status {
        500.. => tracing::warn!(%method, path, status, code, milliseconds, "request failed"),
        400.. => tracing::info!(%method, path, status, code, milliseconds, "request refused"),
        _ => tracing::debug!(%method, path, status, milliseconds, "request served"),
    }
    count(route.as_ref().map_or("none", MatchedPath::as_str), &method, status, elapsed);
    response.headers_mut().insert(RequestId::HEADER, id);
    if leaving.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What requests of a route, method and status are counted with.
type Meter = (&'static str, u16, Histogram);

/// Counts a request. `route` is the route's pattern, not the path, and methods are the known ones: a label for each
/// text that a caller thinks of would let it fill the server's memory.
fn count(route: &str, method: &Method, status: u16, elapsed: Duration) {
    thread_local! {
        // Looking a histogram up by its labels costs as much as a decision, so each thread keeps those that it uses.
        static METERS: RefCell<HashMap<String, Vec<Meter>>> = RefCell::default();
    }
    let method = match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    };
    METERS.with_borrow_mut(|meters| {
        let same = |meter: &&Meter| (meter.0, meter.1) == (method, status);
        if let Some((_, _, histogram)) = meters.get(route).and_then(|kept| kept.iter().find(same)) {
            return histogram.record(elapsed);
        }
        let labels =
            [("route", route.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
        let histogram = metrics::histogram!("edict_http_request_duration_seconds", &labels);
        histogram.record(elapsed);
        meters.entry(route.to_owned()).or_default().push((method, status, histogram));
    });
}

/// What may be repeated in a log line and a header.
fn harmless(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=128).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
}

/// Unique in this process by the counter and across processes by the random start.
fn new_id() -> HeaderValue {
    static START: std::sync::LazyLock<u64> =
        std::sync::LazyLock::new(|| uuid::Uuid::new_v4().as_u64_pair().0);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::from_str(&format!("{:016x}-{count:x}", *START))
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
