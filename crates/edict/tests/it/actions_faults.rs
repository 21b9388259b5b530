//! The action executor when things die: whatever happens, the trail says what was done, and nothing is done twice.

use crate::support::actions::{SECRET, action, signed, verdict};
use crate::support::{Builder, Database, PATIENCE, Reply, TestApp};
use edict_testbed::{Mischief, Namespace, Proxy};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the API server has for an answer, where a test waits for that to pass.
const TIMEOUT: u64 = 4;

fn server(namespace: &Namespace, kubeconfig: &Path) -> Builder {
    TestApp::on_cluster(namespace, kubeconfig).setting("jwt_secret", SECRET)
}

fn scale(namespace: &Namespace, replicas: u32) -> Value {
    let params = json!({"namespace": namespace.name(), "deploymentName": "web", "replicas": replicas});
    signed(action("scale_deployment", params))
}

fn wanted(namespace: &Namespace) -> u64 {
    namespace.get(&["deployment/web"])["spec"]["replicas"].as_u64().unwrap()
}

/// Waits until so many requests with this method have reached the proxy.
async fn until_seen(proxy: &Proxy, method: &str, count: usize) {
    let end = Instant::now() + PATIENCE;
    while proxy.seen().iter().filter(|request| request.starts_with(method)).count() < count {
        assert!(Instant::now() < end, "{:?}", proxy.seen());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Where the server is killed.
struct Point {
    method: &'static str,
    mischief: Mischief,
    /// Status, code and replicas that the trail and the cluster show afterwards.
    after: (&'static str, Value, u64),
}

fn points() -> [Point; 3] {
    [
        // While it looks at the target.
        Point { method: "GET", mischief: Mischief::Hang, after: ("failed", "action_interrupted".into(), 1) },
        // The change is on its way, and never arrives.
        Point {
            method: "PATCH",
            mischief: Mischief::Hang,
            after: ("failed", "action_interrupted".into(), 1),
        },
        // The change is made, and nobody has heard of it.
        Point {
            method: "PATCH",
            mischief: Mischief::Late(Duration::from_secs(3600)),
            after: ("completed", Value::Null, 2),
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_s_action_ends_with_what_the_cluster_shows() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.create(&namespace.deployment_record("web", 1));
    for database in Database::each() {
        for Point { method, mischief, after: (status, code, replicas) } in points() {
            let proxy = Proxy::start(&namespace).await;
            let builder = server(&namespace, &proxy.kubeconfig(&namespace)).database(database.clone());
            let mut app = builder.setting("cluster_timeout_seconds", TIMEOUT).start();
            namespace.kubectl(&["scale", "deployment", "web", "--replicas", "1"]);
            proxy.on(method, "deployments", 1, mischief);
            let address = app.listener("actions");
            let body = scale(&namespace, 2).to_string();
            let asked = tokio::spawn(async move {
                let client = crate::support::http_builder().build().unwrap();
                client.post(format!("{address}/executor/execute")).body(body).send().await
            });
            until_seen(&proxy, method, 1).await;
            if replicas == 2 {
                namespace.wait_for("the change", || wanted(&namespace) == 2);
            }
            app.kill();
            assert!(asked.await.unwrap().is_err(), "a reply of a server that was killed");
            let changes = proxy.seen().iter().filter(|request| request.starts_with("PATCH")).count();
            app.restart();
            let id = app.trail().await[0]["id"].clone();
            let entry = app.closed(&id).await;
            assert_eq!((&entry["status"], &entry["errorCode"]), (&json!(status), &code), "{method} {entry}");
            assert_eq!(wanted(&namespace), replicas, "{method} {entry}");
            // Looked at, not done again.
            let seen = proxy.seen();
            assert_eq!(
                seen.iter().filter(|request| request.starts_with("PATCH")).count(),
                changes,
                "{seen:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_ends_what_a_killed_one_left_behind() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(database) = Database::postgres() else { return };
    namespace.create(&namespace.deployment_record("web", 1));
    let proxy = Proxy::start(&namespace).await;
    let start = |timeout: u64| {
        let builder = server(&namespace, &proxy.kubeconfig(&namespace)).database(database.clone());
        builder.setting("cluster_timeout_seconds", timeout).start()
    };
    let (mut doomed, other) = (start(600), start(1));
    proxy.on("PATCH", "deployments", 1, Mischief::Late(Duration::from_secs(3600)));
    let body = scale(&namespace, 2);
    let asked = async {
        tokio::select! {
            _ = doomed.ask(&body) => panic!("it was answered"),
            () = until_seen(&proxy, "PATCH", 1) => {}
        }
    };
    asked.await;
    namespace.wait_for("the change", || wanted(&namespace) == 2);
    let id = other.trail().await[0]["id"].clone();
    // As long as its server lives, nobody touches it.
    let late = json!({"namespace": namespace.name(), "deploymentName": "nothing", "replicas": 1});
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        let reply = other.ask(&signed(action("scale_deployment", late.clone()))).await;
        assert_eq!(verdict(&reply), (404, "target_not_found"));
        assert_eq!(other.audited(&id).await["status"], "in_progress");
    }
    doomed.kill();
    let entry = other.closed(&id).await;
    assert_eq!(entry["status"], "completed", "{entry}");
    assert_eq!(entry["policyDecision"]["allowed"], true, "{entry}");
    doomed.restart();
    assert_eq!(doomed.audited(&id).await["steps"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_no_half_action() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.create(&namespace.deployment_record("web", 1));
    let proxy = Proxy::start(&namespace).await;
    let app = server(&namespace, &proxy.kubeconfig(&namespace)).start();
    proxy.on("GET", "deployments", 1, Mischief::Late(Duration::from_secs(1)));
    let body = scale(&namespace, 2);
    tokio::select! {
        _ = app.ask(&body) => panic!("it was answered"),
        () = until_seen(&proxy, "GET", 1) => {}
    }
    let id = app.trail().await[0]["id"].clone();
    assert_eq!(app.closed(&id).await["status"], "completed");
    assert_eq!(wanted(&namespace), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_ends_its_actions_first() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.deployment("web", 1);
    let proxy = Proxy::start(&namespace).await;
    let mut app = server(&namespace, &proxy.kubeconfig(&namespace)).start();
    // One that nobody waits for any more, and one whose caller waits for a workload that never becomes healthy.
    namespace.break_deployment("web");
    proxy.on("PATCH", "deployments", 1, Mischief::Late(Duration::from_secs(2)));
    let body = scale(&namespace, 2);
    tokio::select! {
        _ = app.ask(&body) => panic!("it was answered"),
        () = until_seen(&proxy, "PATCH", 1) => {}
    }
    let mut waiting = action(
        "scale_deployment",
        json!({"namespace": namespace.name(), "deploymentName": "web", "replicas": 3}),
    );
    waiting["wait"] = json!("10m");
    let waiting = app.to_actions("POST", "/executor/execute").body(signed(waiting).to_string());
    let asked = tokio::spawn(async move { crate::support::reply(waiting).await });
    until_seen(&proxy, "PATCH", 2).await;
    assert!(tokio::task::block_in_place(|| app.stop()), "{}", app.log());
    let reply: Reply = asked.await.unwrap();
    assert_eq!(reply.json["success"], true, "{}", reply.json);
    let reason = reply.json["result"]["health"]["reason"].as_str().unwrap();
    assert!(reason.contains("told to stop"), "{reason}");
    app.restart();
    let trail = app.trail().await;
    assert!(trail.len() == 2 && trail.iter().all(|entry| entry["status"] == "completed"), "{trail:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_fails_before_during_and_after_is_told_apart() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.create(&namespace.deployment_record("web", 1));
    let mut proxy = Proxy::start(&namespace).await;
    // Long enough for a cluster that is busy: what it does not do in time is rightly told as not done.
    let app = server(&namespace, &proxy.kubeconfig(&namespace))
        .setting("cluster_timeout_seconds", 10)
        .setting("rate_limit_scale_max", 100)
        .start();
    let refuse = |status: u16, reason: &str| {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
            "reason": reason, "message": "said by the test"});
        status.to_string()
    };
    let (completed, failed, rejected) = ("completed", "failed", "rejected");
    let answer = |status: u16, reason: &str| Mischief::Answer(status, Some("7"), refuse(status, reason));
    for (method, mischief, expected, status, replicas) in [
        ("GET", Mischief::CutBefore, (503, "cluster_unavailable"), rejected, 1),
        ("GET", answer(401, "Unauthorized"), (502, "cluster_refused"), rejected, 1),
        ("GET", answer(429, "TooManyRequests"), (503, "cluster_unavailable"), rejected, 1),
        ("GET", Mischief::Hang, (504, "cluster_timeout"), rejected, 1),
        ("PATCH", Mischief::CutBefore, (503, "cluster_unavailable"), failed, 1),
        ("PATCH", Mischief::CutAfter, (200, ""), completed, 2),
        ("PATCH", Mischief::Late(Duration::from_secs(600)), (200, ""), completed, 2),
        ("PATCH", Mischief::Hang, (504, "cluster_timeout"), failed, 1),
        // Somebody else was quicker, again and again.
        ("PATCH", answer(409, "Conflict"), (409, "target_conflict"), failed, 1),
        ("PATCH", answer(429, "TooManyRequests"), (503, "cluster_unavailable"), failed, 1),
        ("PATCH", answer(422, "Invalid"), (502, "action_failed"), failed, 1),
        ("PATCH", answer(401, "Unauthorized"), (502, "cluster_refused"), failed, 1),
    ] {
        namespace.kubectl(&["scale", "deployment", "web", "--replicas", "1"]);
        // While its status still changes, a patch may meet that; of which a lost answer would tell nothing.
        namespace.rolled_out("web");
        proxy.behave();
        // Credentials that are not accepted are read again, and tried once more; so is what met somebody else's change.
        let times = if ["cluster_refused", "target_conflict"].contains(&expected.1) { 100 } else { 1 };
        proxy.on(method, "deployments", times, mischief);
        let reply = app.ask(&scale(&namespace, 2)).await;
        assert_eq!(verdict(&reply), expected, "{method} {}", reply.json);
        let entry = app.audited(&reply.json["auditId"]).await;
        assert_eq!(entry["status"], status, "{method} {expected:?} {entry}");
        assert_eq!(wanted(&namespace), replicas, "{method} {expected:?} {entry}");
    }
    proxy.behave();
    proxy.down().await;
    let down = app.ask(&scale(&namespace, 2)).await;
    assert_eq!(verdict(&down), (503, "cluster_unavailable"));
    proxy.up().await;
    assert_eq!(verdict(&app.ask(&scale(&namespace, 3)).await), (200, ""));
}

/// The API server goes away in the middle, and is back only after the server has died: until then the action stays open.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_cannot_tell_yet_stays_open() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.create(&namespace.deployment_record("web", 1));
    let mut proxy = Proxy::start(&namespace).await;
    let builder = server(&namespace, &proxy.kubeconfig(&namespace));
    let mut app = builder.setting("cluster_timeout_seconds", 1).start();
    proxy.on("PATCH", "deployments", 1, Mischief::Late(Duration::from_secs(3600)));
    let body = scale(&namespace, 2);
    tokio::select! {
        _ = app.ask(&body) => panic!("it was answered"),
        () = until_seen(&proxy, "PATCH", 1) => {}
    }
    namespace.wait_for("the change", || wanted(&namespace) == 2);
    app.kill();
    proxy.down().await;
    app.restart();
    let id = app.trail().await[0]["id"].clone();
    let end = Instant::now() + PATIENCE;
    while !app.log().contains("what became of an action is not known yet") {
        assert!(Instant::now() < end, "{}", app.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(app.audited(&id).await["status"], "in_progress");
    proxy.up().await;
    assert_eq!(app.closed(&id).await["status"], "completed");
}
