//! The spec's requests for the registry, word for word: its payloads are in `spec/`.

use crate::support::{Database, TestApp, WebServer, archive, policy, policy_source, reply};
use serde_json::{Value, json};

const POLICY: &str = include_str!("spec/policy.json");
/// Without the comma behind the last field, with which it would be no JSON.
const EXECUTOR: &str = include_str!("spec/executor.json");

/// A server that cannot reach the host that the spec's policy points at, whatever network the test runs in.
fn start(database: Database) -> TestApp {
    let nowhere = "http://127.0.0.1:9";
    TestApp::builder().database(database).env("https_proxy", nowhere).env("no_proxy", "127.0.0.1").start()
}

/// Sends text as curl does for the spec's lines.
async fn curl(app: &TestApp, method: &str, path: &str, body: &'static str) -> (u16, Value) {
    let request = app.request(method, path).header("content-type", "application/json");
    let reply = reply(request.body(body)).await;
    (reply.status, reply.json)
}

#[tokio::test(flavor = "multi_thread")]
async fn policies() {
    for database in Database::each() {
        let app = start(database);
        let (status, made) = curl(&app, "POST", "/policy", POLICY).await;
        assert_eq!((status, &made["success"]), (200, &json!(true)), "{made}");
        assert!(made["warnings"][0].as_str().unwrap().contains("https://example.com/code/"), "{made}");
        let record = &made["data"];
        assert_eq!(record["policy_rule_uri"], "ip_allowlist:1.0-beta");
        assert_eq!((&record["code_digest"], &record["revision"]), (&Value::Null, &json!(1)));
        let payload: Value = serde_json::from_str(POLICY).unwrap();
        for (field, value) in payload.as_object().unwrap() {
            assert_eq!(&record[field], value, "{field}");
        }

        let (status, read) = app.get("/policy/ip_allowlist:1.0-beta").await;
        assert_eq!((status, &read["data"]), (200, record));

        let set = r#"{
    "$set": {
      "policy_parameters.local_allowlist": ["10.0.0.1", "8.8.8.8"],
      "description": "Updated policy to allow new internal IP ranges."
    }
  }"#;
        let (status, updated) = curl(&app, "PUT", "/policy/ip_allowlist:1.0-beta", set).await;
        assert_eq!(status, 200, "{updated}");
        let new = &updated["data"];
        assert_eq!(new["policy_parameters"]["local_allowlist"], json!(["10.0.0.1", "8.8.8.8"]));
        assert_eq!(new["description"], "Updated policy to allow new internal IP ranges.");
        assert_eq!((&new["revision"], &new["created_at"]), (&json!(2), &record["created_at"]));
        assert!(new["updated_at"].as_str() > record["updated_at"].as_str());

        let query = r#"{
    "release_tag": "beta",
    "tags": { "$regex": "security" },
    "version": { "$gte": "1.0" }
  }"#;
        let (status, found) = curl(&app, "POST", "/policy/query", query).await;
        assert_eq!((status, &found["has_more"]), (200, &json!(false)), "{found}");
        assert_eq!(found["data"], json!([new]));

        let (status, gone) = curl(&app, "DELETE", "/policy/ip_allowlist:1.0-beta", "").await;
        assert_eq!((status, &gone["data"]["policy_rule_uri"]), (200, &json!("ip_allowlist:1.0-beta")));
        let (status, missing) = app.get("/policy/ip_allowlist:1.0-beta").await;
        assert_eq!((status, &missing["success"]), (404, &json!(false)));
        assert_eq!(missing["error"]["code"], "policy_not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn executors() {
    for database in Database::each() {
        let app = start(database);
        let (status, made) = curl(&app, "POST", "/executor", EXECUTOR).await;
        assert_eq!(status, 200, "{made}");
        let payload: Value = serde_json::from_str(EXECUTOR).unwrap();
        for (field, value) in payload.as_object().unwrap() {
            assert_eq!(&made["data"][field], value, "{field}");
        }
        assert_eq!(made["data"]["executor_status"], "pending", "it has no address yet");

        let (status, read) = app.get("/executor/executor-001").await;
        assert_eq!((status, &read["data"]), (200, &made["data"]));

        let set = r#"{
    "$set": {
      "metadata.tags": ["amd_64", "zero-downtime", "ai-worker"],
      "metadata.description": "Updated policy to allow new internal IP ranges."
    }
  }"#;
        let (status, updated) = curl(&app, "PUT", "/executor/executor-001", set).await;
        assert_eq!(status, 200, "{updated}");
        let metadata = &updated["data"]["executor_metadata"];
        assert_eq!(metadata["tags"], json!(["amd_64", "zero-downtime", "ai-worker"]));
        assert_eq!(metadata["author_name"], "Prasanna", "what was not set is kept");
        assert!(updated["data"].get("metadata").is_none());

        let query = r#"{
        "executor_metadata.tags": { "$in": ["kubernetes-cluster"] },
        "executor_hardware_info.vcpus.count": { "$gte": 16 }
      }"#;
        let (_, found) = curl(&app, "POST", "/executor/query", query).await;
        assert_eq!(found["data"], json!([]), "the update took the tag away: {found}");
        let back = json!({"$push": {"metadata.tags": "kubernetes-cluster"}});
        app.json("PUT", "/executor/executor-001", &back).await;
        let (_, found) = curl(&app, "POST", "/executor/query", query).await;
        assert_eq!(found["data"][0]["executor_id"], "executor-001", "{found}");

        let run = r#"{
    "policy_rule_uri": "ip_allowlist:1.0-beta",
    "input_data": {
      "ip": "10.0.0.1"
    },
    "parameters": {
      "local_allowlist": ["10.0.0.1"]
    }
  }"#;
        let (status, refused) = curl(&app, "POST", "/executor/executor-001/execute_policy", run).await;
        assert_eq!((status, &refused["error"]["code"]), (404, &json!("policy_not_found")));
        app.register(&policy_named_as_in_the_spec()).await;
        let (status, refused) = curl(&app, "POST", "/executor/executor-001/execute_policy", run).await;
        assert_eq!((status, &refused["error"]["code"]), (502, &json!("executor_unreachable")), "{refused}");
        let (status, allowed) = curl(&app, "POST", "/executor/local/execute_policy", run).await;
        let expected = json!({"allowed": true, "input_data": {"ip": "10.0.0.1"}, "reason": "allowed"});
        assert_eq!((status, &allowed), (200, &json!({"success": true, "data": expected})));

        let (status, _) = curl(&app, "DELETE", "/executor/executor-001", "").await;
        assert_eq!(status, 200);
        assert_eq!(app.get("/executor/executor-001").await.1["error"]["code"], "executor_not_found");
    }
}

/// The spec's record with code that does the same without the network.
fn policy_named_as_in_the_spec() -> Value {
    let mut record: Value = serde_json::from_str(POLICY).unwrap();
    record["code"] = json!(policy_source(
        "allowed = input_data['ip'] in parameters['local_allowlist']\n\
         return {'allowed': allowed, 'input_data': input_data, 'reason': 'allowed' if allowed else 'denied'}"
    ));
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_becomes_a_policy() {
    for database in Database::each() {
        let app = start(database);
        let packed = archive::zip(&[("code/function.py", &policy_source("return {'allowed': True}"))]);
        let metadata = r#"{
           "asset_name": "IP-allow-list",
           "asset_version": { "version": "1.0", "tag": "beta" },
           "asset_metadata": { "description": "IP allow list policy code" },
           "asset_tags": ["policy", "example"]
         }"#;
        let file = reqwest::multipart::Part::bytes(packed).file_name("ip-allow-list-checker.zip");
        let form = reqwest::multipart::Form::new().part("asset", file).text("asset_metadata", metadata);
        let uploaded = reply(app.request("POST", "/upload_asset").multipart(form)).await;
        assert_eq!(uploaded.status, 200, "{uploaded:?}");
        let asset = &uploaded.json["data"];
        assert_eq!(asset["asset_uri"], "IP-allow-list:1.0-beta");
        assert_eq!(asset["asset_tags"], json!(["policy", "example"]));
        assert_eq!(asset["asset_file_info"]["file_name"], "ip-allow-list-checker.zip");
        let url = asset["asset_public_url"].as_str().unwrap();
        let id = asset["asset_id"].as_str().unwrap();
        assert_eq!(url, format!("{}/asset-object/{id}", app.url()));
        for (name, code) in [("by-uri", "IP-allow-list:1.0-beta"), ("by-url", url)] {
            let made = app.register(&policy(name, code)).await;
            assert!(made["data"]["code_digest"].is_string() && made.get("warnings").is_none(), "{made}");
            assert_eq!(
                app.run(&format!("{name}:1.0-test"), json!({})).await.1["data"],
                json!({"allowed": true})
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_is_not_up_yet_is_pinned_by_the_first_run() {
    for database in Database::each() {
        let app = start(database);
        let mut web = WebServer::down();
        let pack = |answer: &str| {
            archive::zip(&[("code/function.py", &policy_source(&format!("return '{answer}'")))])
        };
        let url = web.put("/later.zip", pack("first"));
        let later = policy("later", &url);

        let (status, refused) = app.json("POST", "/policy?verify=true", &later).await;
        assert_eq!((status, &refused["error"]["code"]), (422, &json!("code_unreachable")), "{refused}");
        let made = app.register(&later).await;
        assert_eq!(made["data"]["code_digest"], Value::Null);
        assert!(made["warnings"][0].as_str().unwrap().contains(&url), "{made}");
        let (status, refused) = app.run("later:1.0-test", json!({})).await;
        assert_eq!((status, &refused["error"]["code"]), (422, &json!("code_unreachable")), "{refused}");

        web.up().await;
        assert_eq!(app.run("later:1.0-test", json!({})).await.1["data"], "first");
        let pinned = app.get("/policy/later:1.0-test").await.1;
        assert!(pinned["data"]["code_digest"].is_string(), "{pinned}");

        web.put("/later.zip", pack("second"));
        assert_eq!(app.run("later:1.0-test", json!({})).await.1["data"], "first", "pinned is pinned");
        let touch = json!({"$set": {"description": "the code stays"}});
        app.json("PUT", "/policy/later:1.0-test", &touch).await;
        assert_eq!(app.run("later:1.0-test", json!({})).await.1["data"], "first");
        let (status, reply) = app.json("PUT", "/policy/later:1.0-test", &later).await;
        assert_eq!(status, 200, "{reply}");
        assert_ne!(reply["data"]["code_digest"], pinned["data"]["code_digest"]);
        assert_eq!(app.run("later:1.0-test", json!({})).await.1["data"], "second");
    }
}

/// A host that is up before the file is: the spec's own URL, on a machine that can reach that host.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_yet_counts_as_unreachable() {
    let (app, web) = (TestApp::start(), WebServer::start().await);
    let made = app.register(&policy("later", &web.url("/not-there.zip"))).await;
    assert_eq!(made["data"]["code_digest"], Value::Null);
    assert!(made["warnings"][0].as_str().unwrap().contains("404"), "{made}");
}
