//! What every listener has, and how the server starts and stops.

use crate::support::{Database, TestApp, edict, http, policy, policy_source, reply, wait_for};
use serde_json::{Value, json};
use std::process::Command;

const LISTENERS: [&str; 3] = ["system", "engine", "actions"];

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_tells_about_itself() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        for name in LISTENERS {
            let get = |path: &str| reply(http().get(format!("{}{path}", app.listener(name))));
            for path in ["/healthz", "/readyz"] {
                let got = get(path).await;
                assert_eq!((got.status, &got.json), (200, &json!({"status": "ok"})), "{name}{path}");
            }
            let metrics = get("/metrics").await;
            let text = String::from_utf8(metrics.bytes).unwrap();
            assert!(text.contains("edict_http_request_duration_seconds"), "{name}: {text}");
            let api = get("/openapi.json").await;
            assert!(api.json["openapi"].as_str().unwrap().starts_with("3."), "{name}");
            let docs = get("/docs/").await;
            assert!(docs.status == 200 && docs.header("content-type").starts_with("text/html"), "{name}");
            let missing = get("/nowhere").await;
            assert_eq!(
                (missing.status, &missing.json["error"]["code"]),
                (404, &json!("route_not_found")),
                "{name}"
            );
            assert_eq!(missing.json["success"], false);
            let wrong = reply(http().delete(format!("{}/healthz", app.listener(name)))).await;
            assert_eq!(
                (wrong.status, &wrong.json["error"]["code"]),
                (405, &json!("method_not_allowed")),
                "{name}"
            );
        }
        let wrong = reply(app.request("PATCH", "/policy")).await;
        assert_eq!((wrong.status, &wrong.json["error"]["code"]), (405, &json!("method_not_allowed")));
        assert_eq!(wrong.header("allow"), "POST");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_page_needs_nothing_from_elsewhere() {
    let app = TestApp::start();
    let page = String::from_utf8(reply(app.request("GET", "/docs/")).await.bytes).unwrap();
    let script = page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    let script = reply(app.request("GET", &format!("/docs/{}", script.trim_start_matches("./")))).await;
    assert!(script.status == 200 && script.bytes.len() > 100, "the page's script is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_carries_a_request_id() {
    let app = TestApp::start();
    let with = |id: &'static str| reply(app.request("GET", "/policy/nobody:1-1").header("x-request-id", id));
    let echoed = with("my-id_1.2:3").await;
    assert_eq!(echoed.header("x-request-id"), "my-id_1.2:3");
    assert!(wait_for(|| app.log().contains("my-id_1.2:3").then_some(())).is_some(), "it is in the log");
    for odd in ["a b", "a\"b", "<script>", ""] {
        let made = with(odd).await;
        assert!(made.header("x-request-id") != odd && made.header("x-request-id").len() > 10, "{odd:?}");
    }
    let (first, second) = (with("").await, with("").await);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    for name in LISTENERS {
        let missing = reply(http().get(format!("{}/nowhere", app.listener(name)))).await;
        assert!(!missing.header("x-request-id").is_empty(), "{name}");
    }
}

/// A request that is under way when SIGTERM comes is finished, and then the server ends with success.
#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_finishes_what_runs() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        let source = policy_source("import time\ncontext['started'] = 1\ntime.sleep(1)\nreturn 'finished'");
        app.register(&policy("slow", &source)).await;
        let url = app.url();
        let run = tokio::spawn(async move {
            let body = json!({"policy_rule_uri": "slow:1.0-test", "input_data": {}});
            reply(http().post(format!("{url}/executor/local/execute_policy")).json(&body)).await
        });
        let started = json!({"op": "get", "key": "started"});
        while app.json("POST", "/policy/slow:1.0-test/context", &started).await.1["data"]["found"] != true {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(tokio::task::block_in_place(|| app.stop()), "{}", app.log());
        let got = run.await.unwrap();
        assert_eq!((got.status, &got.json["data"]), (200, &json!("finished")), "{got:?}");
        assert!(!app.data_dir().parent().unwrap().join("ready.json").exists(), "it is ready no more");
    }
}

/// Who was told to stop serves on for `drain_seconds`, and tells everybody to go elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_says_so_first() {
    let mut app = TestApp::builder().setting("drain_seconds", 5).start();
    let before = reply(app.request("GET", "/executor/local")).await;
    assert_eq!((before.status, before.header("connection")), (200, ""));
    let told = Command::new("kill").arg(app.pid().to_string()).status().unwrap();
    assert!(told.success());
    for name in LISTENERS {
        let ready = || reply(http().get(format!("{}/readyz", app.listener(name))));
        let mut answer = ready().await;
        while answer.status == 200 {
            answer = ready().await;
        }
        assert_eq!((answer.status, &answer.json["error"]["code"]), (503, &json!("shutting_down")), "{name}");
    }
    let after = reply(app.request("GET", "/executor/local")).await;
    assert_eq!((after.status, after.header("connection")), (200, "close"));
    assert!(tokio::task::block_in_place(|| app.stop()), "{}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_file_and_the_output_name_every_listener() {
    let app = TestApp::start();
    let file = std::fs::read(app.data_dir().parent().unwrap().join("ready.json")).unwrap();
    let urls: Value = serde_json::from_slice(&file).unwrap();
    for name in LISTENERS {
        let url = app.listener(name);
        assert_eq!(urls[name], json!(url));
        assert!(!url.ends_with(":0") && app.log().contains(&url), "{name}: {url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let app = TestApp::start();
    let port = app.url().rsplit(':').next().unwrap().to_owned();
    let dir = tempfile::TempDir::new().unwrap();
    let others = ["--engine-port", "0", "--actions-port", "0"];
    let output = edict(dir.path())
        .args(["serve", "--data-dir", "data", "--system-port", &port])
        .args(others)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_has_one_server() {
    let app = TestApp::start();
    let data = app.data_dir();
    let ports = ["--system-port", "0", "--engine-port", "0", "--actions-port", "0"];
    let second =
        edict(data.parent().unwrap()).arg("serve").arg("--data-dir").arg(&data).args(ports).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && error.contains("another server uses the data folder"), "{error}");
    assert_eq!(app.get("/executor/local").await.0, 200, "the first goes on");
}
