//! A real HTTP server that gives one prepared answer and remembers what it was asked.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query, still encoded.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// `GET /policy/a`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

type Answer = dyn Fn() -> Response + Send + Sync;

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    delay: Duration,
    answer: Arc<Answer>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    shared: Shared,
}

impl Server {
    pub(crate) async fn answering(answer: impl Fn() -> Response + Send + Sync + 'static) -> Self {
        Self::answering_late(Duration::ZERO, answer).await
    }

    /// Takes its time first.
    pub(crate) async fn answering_late(
        delay: Duration,
        answer: impl Fn() -> Response + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared { seen: Arc::default(), delay, answer: Arc::new(answer) };
        let router = Router::new().fallback(remember).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// Answers 200 with this JSON.
    pub(crate) async fn saying(value: Value) -> Self {
        Self::answering(move || axum::Json(value.clone()).into_response()).await
    }

    /// Answers with this status, headers and text.
    pub(crate) async fn replying(
        status: u16,
        headers: &'static [(&'static str, &'static str)],
        text: impl Into<String>,
    ) -> Self {
        let text = text.into();
        Self::answering(move || {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(Body::from(text.clone())).unwrap()
        })
        .await
    }

    /// What it was asked; fails unless that was exactly one request.
    pub(crate) fn seen(&self) -> Seen {
        let seen = self.shared.seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

async fn remember(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let seen = Seen { method: parts.method, target, headers: parts.headers, body };
    shared.seen.lock().unwrap().push(seen);
    tokio::time::sleep(shared.delay).await;
    (shared.answer)()
}
