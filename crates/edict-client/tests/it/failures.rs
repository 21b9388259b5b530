//! Everything that is not a reply that succeeded, and what must never be shown.

use crate::server::Server;
use axum::response::Response;
use edict_client::{Client, Error};
use serde_json::json;
use std::error::Error as _;
use std::time::{Duration, Instant};

const SECRET: &str = "s3cret-t0ken";

fn client(url: &str) -> Client {
    Client::builder(url).token(SECRET).unwrap().timeout(Duration::from_millis(300)).build().unwrap()
}

/// Everything that a program might log about an error.
fn everything(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(" {inner} {inner:?}"));
        cause = inner.source();
    }
    text
}

#[tokio::test]
async fn a_refusal_keeps_all_that_the_server_said() {
    let body = json!({
        "success": false,
        "message": "too many runs wait; try again later",
        "error": {"code": "too_busy", "details": {"queue": 8}},
    });
    let headers = &[("x-request-id", "r-7"), ("retry-after", "3")];
    let server = Server::replying(429, headers, body.to_string()).await;
    let error = client(&server.url).get_policy("a:1-b").await.unwrap_err();
    assert_eq!(error.to_string(), "too many runs wait; try again later");
    let refusal = error.api().unwrap();
    assert_eq!((refusal.status, refusal.code.as_str()), (429, "too_busy"));
    assert_eq!(refusal.details, json!({"queue": 8}));
    assert_eq!(refusal.request_id.as_deref(), Some("r-7"));
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(3)));
    assert!(!error.is_not_found() && !error.is_conflict());
}

#[tokio::test]
async fn a_refusal_needs_neither_details_nor_request_id() {
    for (status, not_found, conflict) in [(404, true, false), (409, false, true), (412, false, true)] {
        let body = json!({"success": false, "message": "m", "error": {"code": "c"}});
        let server = Server::replying(status, &[], body.to_string()).await;
        let error = client(&server.url).delete_policy("a:1-b").await.unwrap_err();
        assert_eq!((error.is_not_found(), error.is_conflict()), (not_found, conflict));
        let refusal = error.api().unwrap();
        assert!(refusal.details.is_null() && refusal.request_id.is_none() && refusal.retry_after.is_none());
    }
}

#[tokio::test]
async fn other_programs_are_told_apart_from_edict() {
    for (status, body, reason) in [
        (502, "<html>Bad Gateway</html>", "not JSON"),
        (200, "<html>Welcome</html>", "not JSON"),
        (200, "", "not JSON"),
        (200, r#"{"hello": 1}"#, "does not fit"),
        (500, r#"{"error": "plain"}"#, "does not fit"),
        (200, r#"{"success": true, "data": {"name": 1}}"#, "does not fit"),
    ] {
        let server = Server::replying(status, &[], body).await;
        let error = client(&server.url).get_policy("a:1-b").await.unwrap_err();
        assert!(
            matches!(&error, Error::NotEdict { status: seen, .. } if *seen == status),
            "{body}: {error:?}"
        );
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains("/policy/a:1-b"), "{text}");
    }
}

#[tokio::test]
async fn code_without_its_digest_is_not_edicts() {
    let server = Server::replying(200, &[("x-edict-code-format", "zip")], "PK").await;
    let error = client(&server.url).policy_code("a:1-b").await.unwrap_err();
    assert!(matches!(error, Error::NotEdict { .. }), "{error:?}");
}

#[tokio::test]
async fn nothing_listening_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url).health().await.unwrap_err();
    let Error::Unreachable { url: seen, reason, source } = &error else { panic!("{error:?}") };
    assert_eq!(*seen, url);
    assert!(reason.contains("refused") && reason.contains("check that the server runs"), "{reason}");
    assert!(source.is_some());
}

#[tokio::test]
async fn an_unknown_host_is_unreachable() {
    let error = client("http://edict.invalid").health().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    // Accepts connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = client(&url);
    let started = Instant::now();
    for error in [client.health().await.unwrap_err(), client.download_asset("x").await.unwrap_err()] {
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("allow more time"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_unreachable() {
    let server = Server::answering(|| {
        let part = futures::stream::iter([Ok(r#"{"success": tr"#), Err(std::io::Error::other("cut"))]);
        Response::new(axum::body::Body::from_stream(part))
    })
    .await;
    let error = client(&server.url).get_policy("a:1-b").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_token_is_presented_and_never_shown() {
    let builder = Client::builder("http://127.0.0.1:1").token(SECRET).unwrap();
    assert!(!format!("{builder:?}").contains(SECRET));
    let client = builder.build().unwrap();
    assert!(!format!("{client:?}").contains(SECRET));
    assert!(!everything(&client.health().await.unwrap_err()).contains(SECRET));

    let server = Server::replying(401, &[], "nothing for you").await;
    let error = self::client(&server.url).get_policy("a:1-b").await.unwrap_err();
    assert!(!everything(&error).contains(SECRET));
    assert_eq!(server.seen().header("authorization"), Some("Bearer s3cret-t0ken"));
}

#[tokio::test]
async fn the_token_does_not_follow_a_redirect_elsewhere() {
    let elsewhere = Server::saying(json!({"success": true, "data": null})).await;
    let target = elsewhere.url.clone();
    let server = Server::answering(move || {
        Response::builder().status(307).header("location", &target).body(axum::body::Body::empty()).unwrap()
    })
    .await;
    client(&server.url).health().await.unwrap();
    assert_eq!(elsewhere.seen().header("authorization"), None);
}

#[tokio::test]
async fn without_a_token_none_is_presented() {
    let server = Server::replying(200, &[], "ok").await;
    Client::new(&server.url, None).unwrap().health().await.unwrap();
    assert_eq!(server.seen().header("authorization"), None);
}

#[test]
fn a_token_that_cannot_be_sent_is_refused_without_showing_it() {
    for token in ["", "  ", "two words", "line\nbreak", "é"] {
        let error = Client::new("http://127.0.0.1:1", Some(token)).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)));
        assert!(token.trim().is_empty() || !everything(&error).contains(token), "{error}");
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    for url in ["", "localhost:5000", "ftp://h", "http://", "http://h/?a=1", "http://h/#a", "/policy"] {
        let error = Client::new(url, None).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{url}: {error:?}");
        assert!(error.to_string().contains("http://127.0.0.1:5000"), "{error}");
    }
    let error = Client::new("http://me:pa55word@h", None).unwrap_err();
    assert!(!everything(&error).contains("pa55word"), "{error}");
}

#[tokio::test]
async fn names_that_would_reach_another_route_are_refused() {
    let server = Server::saying(json!({"success": true, "data": null})).await;
    let client = client(&server.url);
    for name in ["", ".", ".."] {
        for error in [client.delete_policy(name).await, client.delete_executor(name).await] {
            assert!(matches!(error, Err(Error::Invalid(_))), "{name}: {error:?}");
        }
    }
    client.health().await.unwrap();
    assert_eq!(server.seen().line(), "GET /healthz");
}
