//! The action executor: who may ask, for what, how often, and what the trail says of it. What needs a cluster is in
//! `actions_cluster.rs` and `actions_faults.rs`.

use crate::support::actions::{SECRET, action, hmac, signed, verdict};
use crate::support::{Database, Postgres, TestApp, http, reply, wait_for};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn restart() -> Value {
    action("restart_pod", json!({"namespace": "default", "podName": "api-1"}))
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64().floor()
}

/// Without a cluster, this is as far as a request comes that nothing is wrong with.
const PASSED: (u16, &str) = (503, "cluster_unavailable");

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_status_and_an_entry_in_the_trail() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("jwt_secret", SECRET).start();
        let scale = |replicas: Value| {
            let params = json!({"namespace": "default", "deploymentName": "api", "replicas": replicas});
            signed(action("scale_deployment", params))
        };
        let elsewhere = action("restart_pod", json!({"namespace": "kube-system", "podName": "api-1"}));
        let forged = json!({"allowed": true, "reason": "trust me"});
        let delete = action("delete_pod", json!({"namespace": "default", "podName": "api-1"}));
        let no = json!({"allowed": false, "reason": "no"});
        let changed = with(signed(restart()), "requestedBy", "somebody".into());
        let cases = [
            (restart(), (401, "signature_missing")),
            (with(restart(), "signature", "0".repeat(64).into()), (403, "signature_invalid")),
            (with(restart(), "signature", "not hex".into()), (403, "signature_invalid")),
            (changed, (403, "signature_invalid")),
            (with(restart(), "policyDecision", "yes".into()), (400, "invalid_field")),
            (with(restart(), "reason", "x".into()), (400, "unknown_field")),
            (signed(action("drain_node", json!({"node": "a"}))), (422, "invalid_action")),
            (scale(json!(-1)), (422, "invalid_action")),
            (scale(json!(1.5)), (422, "invalid_action")),
            (scale(json!(u64::MAX)), (422, "invalid_action")),
            (scale(json!("3")), (422, "invalid_action")),
            (scale(json!(true)), (422, "invalid_action")),
            (signed(elsewhere), (403, "namespace_not_allowed")),
            (with(signed(restart()), "policyDecision", no), (403, "action_not_allowed")),
            (with(signed(delete), "policyDecision", forged), (403, "action_not_allowed")),
            (signed(restart()), PASSED),
        ];
        for (body, expected) in &cases {
            let reply = app.ask(body).await;
            assert_eq!(verdict(&reply), *expected, "{body} {}", reply.json);
            assert_eq!(reply.json["success"], false);
            assert!(!reply.json["error"].as_str().unwrap().is_empty());
            let entry = app.audited(&reply.json["auditId"]).await;
            assert_eq!((&entry["status"], &entry["errorCode"]), (&json!("rejected"), &json!(expected.1)));
            assert_eq!(entry["errorMessage"], reply.json["error"]);
            assert_eq!(entry["actionType"], body["actionType"]);
            assert_eq!(entry["requestedBy"], body["requestedBy"]);
        }
        for (text, code) in
            [("{", "malformed_json"), ("{}", "invalid_field"), (r#"{"actionType": 1}"#, "invalid_field")]
        {
            let reply = app.ask_text(text).await;
            assert_eq!(verdict(&reply), (400, code), "{text}");
            assert_eq!(app.audited(&reply.json["auditId"]).await["status"], "rejected");
        }
        assert_eq!(app.trail().await.len(), cases.len() + 3);
        assert_eq!(app.sql("SELECT CAST(count(*) AS bigint) FROM action_nonces").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_asked_again_and_its_answer_is_in_the_trail() {
    let app = TestApp::start();
    let denied = app.ask(&action("delete_pod", json!({"namespace": "default", "podName": "api-1"}))).await;
    assert_eq!(verdict(&denied), (403, "action_not_allowed"));
    let entry = app.audited(&denied.json["auditId"]).await;
    assert_eq!(entry["policyDecision"]["allowed"], false);
    assert!(entry["policyDecision"]["decisionId"].is_string(), "{entry}");
    app.allow(&["delete_pod"]).await;
    let passed = app.ask(&action("delete_pod", json!({"namespace": "default", "podName": "api-1"}))).await;
    assert_eq!(verdict(&passed), PASSED);
    let entry = app.audited(&passed.json["auditId"]).await;
    assert_eq!(entry["policyDecision"]["allowed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_repeated_signatures_are_refused() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("jwt_secret", SECRET).start();
        let at = |seconds: f64| with(restart(), "timestamp", seconds.into());
        for (seconds, expected) in [
            (now() - 400.0, (403, "signature_stale")),
            (now() + 400.0, (403, "signature_stale")),
            ((now() - 400.0) * 1000.0, (403, "signature_stale")),
            (now() - 200.5, PASSED),
            (now() * 1000.0, PASSED),
        ] {
            assert_eq!(verdict(&app.ask(&signed(at(seconds))).await), expected, "{seconds}");
        }
        let once = with(at(now()), "nonce", "one-and-only".into());
        // Whoever does not hold the key cannot use up somebody's nonce.
        let forged = with(once.clone(), "signature", "0".repeat(64).into());
        assert_eq!(verdict(&app.ask(&forged).await), (403, "signature_invalid"));
        assert_eq!(verdict(&app.ask(&signed(once.clone())).await), PASSED);
        assert_eq!(verdict(&app.ask(&signed(once.clone())).await), (403, "signature_replayed"));
        let later = with(once, "timestamp", (now() + 1.0).into());
        assert_eq!(verdict(&app.ask(&signed(later.clone())).await), (403, "signature_replayed"));
        // Neither can be taken away from what was signed.
        let mut bare = signed(later);
        bare.as_object_mut().unwrap().retain(|name, _| name != "nonce" && name != "timestamp");
        assert_eq!(verdict(&app.ask(&bare).await), (403, "signature_invalid"));
        let unbound = with(restart(), "nonce", "without-a-time".into());
        assert_eq!(verdict(&app.ask(&signed(unbound)).await), (400, "invalid_field"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_same_request_to_two_servers_one_is_taken() {
    let Some(database) = Database::postgres() else { return };
    let start = || TestApp::builder().database(database.clone()).setting("jwt_secret", SECRET).start();
    let servers = [start(), start()];
    for round in 0..5 {
        let request = with(restart(), "timestamp", now().into());
        let request = signed(with(request, "nonce", format!("nonce-of-round-{round}").into()));
        let replies = futures::future::join_all((0..20).map(|index| servers[index % 2].ask(&request))).await;
        let taken = replies.iter().filter(|reply| verdict(reply) == PASSED).count();
        let repeated = replies.iter().filter(|reply| verdict(reply) == (403, "signature_replayed")).count();
        assert_eq!((taken, repeated), (1, 19));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_signatures_can_be_demanded() {
    let app =
        TestApp::builder().setting("jwt_secret", SECRET).setting("require_fresh_signature", true).start();
    assert_eq!(verdict(&app.ask(&signed(restart())).await), (403, "signature_stale"));
    let timed = with(restart(), "timestamp", now().into());
    assert_eq!(verdict(&app.ask(&signed(timed.clone())).await), (403, "signature_stale"));
    let fresh = with(timed, "nonce", "fresh-enough".into());
    assert_eq!(verdict(&app.ask(&signed(fresh)).await), PASSED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_dry_run_does_not_become_a_real_one() {
    let app = TestApp::builder().setting("jwt_secret", SECRET).start();
    let dry = with(restart(), "dryRun", true.into());
    assert_eq!(verdict(&app.ask(&signed(dry.clone())).await), PASSED);
    // As the spec's clients sign, who know no dry runs.
    let by_the_spec = with(signed(restart()), "dryRun", true.into());
    assert_eq!(verdict(&app.ask(&by_the_spec).await), PASSED);
    let mut stripped = signed(dry);
    stripped.as_object_mut().unwrap().remove("dryRun");
    assert_eq!(verdict(&app.ask(&stripped).await), (403, "signature_invalid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_only_loopback_is_served() {
    let app = TestApp::start();
    assert!(app.log().contains("actions need no signature"), "{}", app.log());
    assert_eq!(verdict(&app.ask(&restart()).await), PASSED);
    let open = TestApp::builder()
        .setting("bind", "0.0.0.0")
        .setting("auth_tokens", "operator:operator-token,admin:administrator")
        .start();
    assert!(open.log().contains("actions are refused until"), "{}", open.log());
    let send = |path: &str, token: &str, body: &Value| {
        reply(open.to_actions("POST", path).bearer_auth(token).body(body.to_string()))
    };
    assert_eq!(open.ask(&restart()).await.status, 401);
    let unsigned = send("/executor/execute", "operator-token", &restart()).await;
    assert_eq!(verdict(&unsigned), (401, "signature_missing"));
    let presigned = send("/executor/execute", "operator-token", &signed(restart())).await;
    assert_eq!(verdict(&presigned), (401, "signature_missing"));
    let made = send("/executor/generate-signature", "administrator", &restart()).await;
    assert_eq!(made.status, 404, "{}", made.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_signs_for_its_own_machine_only() {
    let app = TestApp::builder()
        .setting("jwt_secret", SECRET)
        .setting("auth_tokens", "operator:operator-token,admin:administrator")
        .start();
    let request = with(restart(), "timestamp", now().into());
    let ask = |token: &str| {
        let path = "/executor/generate-signature";
        app.to_actions("POST", path).bearer_auth(token).body(request.to_string())
    };
    let made = reply(ask("administrator")).await;
    let payload = made.json["payload"].as_str().unwrap();
    assert!(payload.starts_with(r#"{"actionType": "restart_pod", "actionParams": {"#), "{payload}");
    assert_eq!(made.json["signature"], hmac(SECRET, payload));
    let used = with(request.clone(), "signature", made.json["signature"].clone());
    let used =
        app.to_actions("POST", "/executor/execute").bearer_auth("operator-token").body(used.to_string());
    assert_eq!(verdict(&reply(used).await), PASSED);
    assert_eq!(reply(ask("operator-token")).await.status, 403);
    for header in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
        assert_eq!(reply(ask("administrator").header(header, "10.0.0.9")).await.status, 404, "{header}");
    }
    let open = TestApp::builder().setting("jwt_secret", SECRET).start();
    let page = open.to_actions("POST", "/executor/generate-signature").body(restart().to_string());
    assert_eq!(reply(page.header("origin", "https://evil.example")).await.status, 403);
    let keyless = TestApp::start();
    let ask = keyless.to_actions("POST", "/executor/generate-signature").body(restart().to_string());
    assert_eq!(reply(ask).await.status, 404);
}

/// An engine that answers what it is told to, and keeps what it was asked.
#[derive(Clone, Default)]
struct Oracle {
    answer: Arc<Mutex<(u16, String, Duration)>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Oracle {
    async fn start() -> (Self, String) {
        let oracle = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router =
            Router::new().route("/api/v1/policy/evaluate", post(Self::reply)).with_state(oracle.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (oracle, url)
    }

    async fn reply(
        State(oracle): State<Self>,
        body: Bytes,
    ) -> (StatusCode, [(&'static str, String); 1], String) {
        oracle.asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        let (status, text, delay) = oracle.answer.lock().unwrap().clone();
        tokio::time::sleep(delay).await;
        (StatusCode::from_u16(status).unwrap(), [("location", "/elsewhere".to_owned())], text)
    }

    fn answers(&self, status: u16, text: &str, delay: Duration) {
        *self.answer.lock().unwrap() = (status, text.to_owned(), delay);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_gives_no_decision_allows_nothing() {
    let (oracle, url) = Oracle::start().await;
    let app = TestApp::builder()
        .setting("policy_engine_url", format!("{url}/"))
        .setting("policy_engine_timeout_ms", 500)
        .start();
    let (yes, at_once) = (r#"{"allowed": true, "reason": "fine", "decisionId": "d-1"}"#, Duration::ZERO);
    let none = (503, "engine_unavailable");
    for (status, text, delay, expected) in [
        (200, yes, at_once, PASSED),
        (200, r#"{"allowed": true}"#, at_once, PASSED),
        (200, r#"{"allowed": false, "reason": "not today"}"#, at_once, (403, "action_not_allowed")),
        (200, yes, Duration::from_secs(5), none),
        (500, yes, at_once, none),
        (307, yes, at_once, none),
        (404, yes, at_once, none),
        (200, "", at_once, none),
        (200, "allowed", at_once, none),
        (200, "[true]", at_once, none),
        (200, r#"{"success": true}"#, at_once, none),
        (200, r#"{"allowed": "true"}"#, at_once, none),
        (200, r#"{"allowed": 1}"#, at_once, none),
        (200, r#"{"allowed": null}"#, at_once, none),
    ] {
        oracle.answers(status, text, delay);
        let reply = app.ask(&restart()).await;
        assert_eq!(verdict(&reply), expected, "{status} {text} {}", reply.json);
        assert_eq!(app.audited(&reply.json["auditId"]).await["status"], "rejected");
    }
    let asked = oracle.asked.lock().unwrap()[0].clone();
    let metadata = json!({"namespace": "default", "podName": "api-1", "dryRun": false});
    let context =
        json!({"userId": "tests", "role": "service", "ipAddress": "127.0.0.1", "metadata": metadata});
    assert_eq!(
        asked,
        json!({"action": "restart_pod", "resource": "pod:api-1", "type": "self_healing", "context": context})
    );
    let down = TestApp::builder().setting("policy_engine_url", "http://127.0.0.1:1").start();
    let refused = down.ask(&restart()).await;
    assert_eq!(verdict(&refused), none);
    assert!(!refused.header("retry-after").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_may_be_another_server() {
    let engine =
        TestApp::builder().setting("auth_tokens", "operator:engines-token,viewer:reading-only").start();
    let start = |token: &str| {
        let builder = TestApp::builder().setting("policy_engine_url", engine.listener("engine"));
        builder.setting("policy_engine_token", token).start()
    };
    let app = start("engines-token");
    assert_eq!(verdict(&app.ask(&restart()).await), PASSED);
    let delete = action("delete_pod", json!({"namespace": "default", "podName": "api-1"}));
    assert_eq!(verdict(&app.ask(&delete).await), (403, "action_not_allowed"));
    let app = start("reading-only");
    assert_eq!(verdict(&app.ask(&restart()).await), (503, "engine_unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trail_nothing_is_done() {
    let Some(postgres) = Postgres::start() else { return };
    let (oracle, url) = Oracle::start().await;
    oracle.answers(200, r#"{"allowed": true}"#, Duration::ZERO);
    let database = Database::postgres_at(postgres.url());
    let app = TestApp::builder().database(database).setting("policy_engine_url", url).start();
    assert_eq!(verdict(&app.ask(&restart()).await), PASSED);
    let asked = oracle.asked.lock().unwrap().len();
    postgres.kill();
    let refused = app.ask(&restart()).await;
    assert_eq!(verdict(&refused), (503, "storage_unavailable"));
    assert!(refused.json["auditId"].is_null(), "{}", refused.json);
    // Not even a question was asked.
    assert_eq!(oracle.asked.lock().unwrap().len(), asked);
    postgres.up();
    wait_for(|| (app.log().contains("audit trail")).then_some(()));
    let end = std::time::Instant::now() + crate::support::PATIENCE;
    while verdict(&app.ask(&restart()).await) != PASSED {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_becomes_no_metric() {
    let app = TestApp::builder().setting("jwt_secret", SECRET).start();
    for number in 0..50 {
        let params = json!({"namespace": format!("evil-{number}"), "podName": "x"});
        app.ask(&signed(action("restart_pod", params))).await;
        app.ask(&signed(action(&format!("evil_{number}"), json!({})))).await;
        app.ask(&action(&format!("evil_{number}"), json!({}))).await;
    }
    app.ask(&signed(restart())).await;
    let metrics = http().get(format!("{}/metrics", app.listener("actions"))).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(!metrics.contains("evil"), "{metrics}");
    let lines: BTreeSet<&str> = metrics.lines().filter(|line| line.starts_with("edict_action")).collect();
    for expected in [
        r#"edict_actions_total{action="restart_pod",namespace="other",result="rejected"} 50"#,
        r#"edict_actions_total{action="other",namespace="other",result="rejected"} 100"#,
        r#"edict_actions_total{action="restart_pod",namespace="default",result="rejected"} 1"#,
        r#"edict_action_refusals_total{action="restart_pod",reason="namespace_not_allowed"} 50"#,
        r#"edict_action_refusals_total{action="other",reason="invalid_action"} 50"#,
        r#"edict_action_refusals_total{action="other",reason="signature_missing"} 50"#,
        r#"edict_action_refusals_total{action="restart_pod",reason="cluster_unavailable"} 1"#,
    ] {
        assert!(lines.contains(expected), "{expected} is not among {lines:#?}");
    }
}
