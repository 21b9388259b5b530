//! A receiver that is there, is not, is slow to like it, and sends elsewhere.

use super::{Notifier, pause};
use crate::audit::tests::{Trail, attempt, end, secret};
use crate::error::{ApiError, Code};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use edict_client::records::AuditStatus;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What came in: path, headers, body.
type Received = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

#[derive(Clone, Default)]
struct Receiver {
    received: Received,
    /// What it answers; 200 when it is empty.
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

async fn receive(State(to): State<Receiver>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    to.received.lock().unwrap().push((uri.path().to_owned(), headers, body));
    let status = to.answers.lock().unwrap().pop().unwrap_or(StatusCode::OK);
    (status, [(header::LOCATION, "/elsewhere")]).into_response()
}

impl Receiver {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?key=sesame", listener.local_addr().unwrap());
        let router = Router::new().fallback(receive).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// Waits until so many requests have come.
    async fn wait_for(&self, count: usize) -> Vec<(String, HeaderMap, Bytes)> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let received = self.received.lock().unwrap().clone();
            if received.len() >= count {
                return received;
            }
            assert!(Instant::now() < end, "only {} came", received.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Servers that tell this URL, on the trail's database.
fn servers(trail: &Trail, url: &str, count: usize) -> Vec<(Arc<crate::audit::Audit>, Notifier)> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = |_| {
        let mut settings = trail.settings.clone();
        (settings.notify_url, settings.jwt_secret) = (secret(url), secret("sesame"));
        (settings.notify_repeats, settings.notify_repeat_minutes) = (2, 60);
        let audit = trail.server(|own| *own = settings.clone());
        let notifier = Notifier::new(&settings, trail.store.clone(), Arc::clone(&audit)).unwrap().unwrap();
        (audit, notifier)
    };
    (0..count).map(server).collect()
}

async fn backlog(trail: &Trail) -> i64 {
    trail.number("SELECT count(*) FROM notifications").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_failed_and_repeated_actions_are_told_and_signed() {
    for trail in Trail::each().await {
        let receiver = Receiver::default();
        let (audit, notifier) = servers(&trail, &receiver.start().await, 1).pop().unwrap();
        let running = tokio::spawn(notifier.run());
        let why = ApiError::new(Code::SignatureInvalid, "the signature is wrong");
        audit.reject(&attempt("api-1"), &why).await.unwrap();
        for (pod, status) in [
            ("api-1", AuditStatus::Failed),
            ("api-1", AuditStatus::Completed),
            ("api-2", AuditStatus::Completed),
            ("api-1", AuditStatus::Completed),
        ] {
            let id = audit.open(&attempt(pod)).await.unwrap();
            audit.close(id, end(status)).await.unwrap();
        }
        // Dry runs repeat nothing.
        let mut dry = attempt("api-2");
        dry.dry_run = true;
        let id = audit.open(&dry).await.unwrap();
        audit.close(id, end(AuditStatus::Completed)).await.unwrap();
        let received = receiver.wait_for(3).await;
        let mut events = Vec::new();
        for (path, headers, body) in &received {
            assert_eq!(path, "/hook");
            let told: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(headers["x-edict-delivery"], told["id"].as_str().unwrap());
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"sesame").unwrap();
            mac.update(body);
            assert_eq!(headers["x-edict-signature"], hex::encode(mac.finalize().into_bytes()));
            assert_eq!(told["action"]["resourceName"], "api-1");
            assert_eq!(told["action"]["signature"], Value::Null);
            events.push((told["event"].as_str().unwrap().to_owned(), told["times"].as_i64()));
        }
        events.sort();
        let expected = [("action.failed", None), ("action.rejected", None), ("action.repeated", Some(2))];
        assert_eq!(events, expected.map(|(event, times)| (event.to_owned(), times)));
        while backlog(&trail).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.abort();
        assert_eq!(receiver.received.lock().unwrap().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_tried_again_and_redirects_are_not_followed() {
    for trail in Trail::each().await {
        let receiver = Receiver::default();
        *receiver.answers.lock().unwrap() = vec![StatusCode::FOUND, StatusCode::INTERNAL_SERVER_ERROR];
        let (audit, notifier) = servers(&trail, &receiver.start().await, 1).pop().unwrap();
        audit.reject(&attempt("api-1"), &ApiError::new(Code::Forbidden, "no")).await.unwrap();
        let running = tokio::spawn(notifier.run());
        let received = receiver.wait_for(3).await;
        assert!(received.iter().all(|(path, _, _)| path == "/hook"));
        assert!(received.iter().all(|(_, _, body)| *body == received[0].2), "the same each time");
        while backlog(&trail).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.abort();
    }
}

/// One that dies in the middle of a delivery; others share what is to be told, and nothing is told by two at once.
#[tokio::test(flavor = "multi_thread")]
async fn servers_share_the_work_and_take_over() {
    for trail in Trail::each().await {
        let receiver = Receiver::default();
        let mut servers = servers(&trail, &receiver.start().await, 3);
        let (audit, dead) = servers.pop().unwrap();
        for number in 0..30 {
            let why = ApiError::new(Code::Forbidden, "no");
            audit.reject(&attempt(&format!("api-{number}")), &why).await.unwrap();
        }
        assert_eq!(dead.take().await.unwrap().len(), 8, "it dies with these in its hands");
        let running: Vec<_> = servers.into_iter().map(|(_, notifier)| tokio::spawn(notifier.run())).collect();
        let ids = |received: &[(String, HeaderMap, Bytes)]| -> BTreeSet<String> {
            received
                .iter()
                .map(|(_, headers, _)| headers["x-edict-delivery"].to_str().unwrap().to_owned())
                .collect()
        };
        let received = receiver.wait_for(22).await;
        assert_eq!((ids(&received).len(), received.len()), (22, 22));
        // Its lease is over.
        trail.sql("UPDATE notifications SET due_at = 0").await;
        let received = receiver.wait_for(30).await;
        assert_eq!(ids(&received).len(), 30);
        while backlog(&trail).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_for_three_days_is_given_up() {
    for trail in Trail::each().await {
        let (audit, notifier) = servers(&trail, "http://127.0.0.1:9/", 1).pop().unwrap();
        audit.reject(&attempt("api-1"), &ApiError::new(Code::Forbidden, "no")).await.unwrap();
        notifier.round().await.unwrap();
        assert_eq!(backlog(&trail).await, 1);
        trail.sql("UPDATE notifications SET due_at = 0, created_at = created_at - 3 * 86400000000").await;
        notifier.round().await.unwrap();
        assert_eq!(backlog(&trail).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_url_nothing_is_kept_to_be_told() {
    for trail in Trail::each().await {
        trail.audit.reject(&attempt("api-1"), &ApiError::new(Code::Forbidden, "no")).await.unwrap();
        for _ in 0..5 {
            trail.complete("api-1").await;
        }
        assert_eq!(backlog(&trail).await, 0);
    }
}

#[test]
fn pauses_double_up_to_ten_minutes() {
    let pauses: Vec<u64> = [1, 2, 3, 10, 11, 1_000_000].map(|attempts| pause(attempts).as_secs()).to_vec();
    assert_eq!(pauses, [1, 2, 4, 512, 600, 600]);
}
