//! Jobs and functions: every method reaches its route with the right request, and reads its reply.

use crate::server::Server;
use axum::response::IntoResponse;
use edict_client::records::{
    DeployFunction, Function, FunctionState, Job, JobStatus, ManageFunction, Object, SubmitJob,
};
use edict_client::{Client, Page};
use serde_json::{Value, json};
use std::time::Duration;

fn client(server: &Server) -> Client {
    Client::new(&server.url, None).unwrap()
}

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

fn job(status: &str) -> Value {
    json!({
        "job_id": "j", "name": "n", "job_status": status, "executor_id": "local", "policy_rule_uri": "p:1-a",
        "inputs": {"ip": "1"}, "created_at": "t",
    })
}

fn function(state: &str) -> Value {
    json!({
        "function_id": "f", "function_executor_id": "local", "function_policy_rule_uri": "p:1-a", "replicas": 2,
        "function_status": {"state": state, "desired": 2, "ready": 1, "observed_revision": 3},
    })
}

#[tokio::test]
async fn submits_a_job_with_its_input_as_written() {
    let server = Server::saying(json!({"success": true, "job_id": "j", "data": job("pending")})).await;
    let input = r#"{"amount": 1.10000000000000000001}"#;
    let body = format!(
        r#"{{"policy_rule_uri": "p:1-a", "timeout": "90s", "backoff_limit": 2, "node_selector": {{"zone": "a"}}, "inputs": {input}}}"#
    );
    let submitted: SubmitJob = serde_json::from_str(&body).unwrap();
    let accepted = client(&server).submit_job(Some("executor-001"), &submitted).await.unwrap();
    assert_eq!((accepted.job_id.as_str(), accepted.job_status), ("j", JobStatus::Pending));
    let seen = server.seen();
    assert_eq!(seen.line(), "POST /jobs/submit/executor-001");
    assert!(String::from_utf8(seen.body.to_vec()).unwrap().contains(input));
    let expected = json!({"policy_rule_uri": "p:1-a", "timeout": 90.0, "backoff_limit": 2, "node_selector": {"zone": "a"}});
    let mut sent = seen.json();
    sent.as_object_mut().unwrap().remove("inputs");
    assert_eq!(sent, expected, "what was not given is not sent");
}

#[tokio::test]
async fn an_allocator_chooses_when_no_executor_is_named() {
    let server = Server::saying(json!({"success": true, "data": job("pending")})).await;
    client(&server).submit_job(None, &json!({"policy_rule_uri": "p:1-a", "inputs": 1})).await.unwrap();
    assert_eq!(server.seen().line(), "POST /jobs/submit");

    let server = Server::saying(json!({"success": true, "data": function("pending")})).await;
    client(&server).deploy_function(None, &json!({"name": "f", "policy_rule_uri": "p:1-a"})).await.unwrap();
    assert_eq!(server.seen().line(), "POST /function/deployments/create");
}

#[tokio::test]
async fn an_empty_executor_is_a_mistake_of_the_caller() {
    let server = Server::saying(json!({"success": true, "data": job("pending")})).await;
    let refused = client(&server).submit_job(Some(""), &json!({})).await;
    assert!(matches!(refused, Err(edict_client::Error::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn waits_longer_than_for_other_calls() {
    for wait in [Some(Duration::from_secs(20)), None] {
        let server = Server::answering_late(Duration::from_millis(400), move || {
            axum::Json(json!({"success": true, "data": job("completed")})).into_response()
        })
        .await;
        let client = Client::builder(&server.url).timeout(Duration::from_millis(100)).build().unwrap();
        let found = client.get_job("j", wait).await;
        assert_eq!(found.is_ok(), wait.is_some(), "{found:?}");
        let line = if wait.is_some() { "GET /jobs/j?wait=20000ms" } else { "GET /jobs/j" };
        assert_eq!(server.seen().line(), line);
    }
}

#[tokio::test]
async fn reads_finds_and_cancels_jobs() {
    let mut done = job("completed");
    done["job_output_data"] = json!({"allowed": true});
    let server = Server::saying(json!({"success": true, "data": done})).await;
    let found = client(&server).get_job("j", None).await.unwrap();
    assert_eq!(found.job_output_data.unwrap().get(), r#"{"allowed":true}"#);

    let server = Server::saying(json!({"success": true, "data": [job("failed")], "has_more": true})).await;
    let filter = json!({"inputs.ip": "1"});
    let page = Page { limit: Some(1), ..Page::default() };
    let found = client(&server).query_jobs::<Job>(&filter, &page).await.unwrap();
    assert!(found.has_more && found.records[0].job_status == JobStatus::Failed);
    assert_eq!((server.seen().line().as_str(), server.seen().json()), ("POST /jobs/query?limit=1", filter));

    let logs = json!([{"attempt": 2, "time": "t", "level": "info", "source": "stdout", "message": "hi"}]);
    for (skip, line) in [(0, "GET /jobs/j/logs"), (7, "GET /jobs/j/logs?skip=7")] {
        let server = Server::saying(json!({"success": true, "data": logs})).await;
        let found = client(&server).job_logs("j", skip).await.unwrap();
        assert_eq!((found[0].attempt, found[0].record.message.as_str()), (2, "hi"));
        assert_eq!(server.seen().line(), line);
    }

    let server = Server::saying(json!({"success": true, "data": job("cancelled")})).await;
    assert_eq!(client(&server).cancel_job("j").await.unwrap().job_status, JobStatus::Cancelled);
    assert_eq!(server.seen().line(), "DELETE /jobs/j");
}

#[tokio::test]
async fn deploys_and_changes_functions() {
    let server = Server::saying(json!({"success": true, "data": function("pending")})).await;
    let body =
        json!({"name": "f", "policy_rule_uri": "p:1-a", "replicas": 2, "autoscaling": {"max_replicas": 5}});
    let deployed: DeployFunction = serde_json::from_value(body).unwrap();
    let stored = client(&server).deploy_function(Some("e"), &deployed).await.unwrap();
    assert_eq!(stored.function_status.state, FunctionState::Pending);
    let seen = server.seen();
    assert_eq!(seen.line(), "POST /function/deployments/create/e");
    assert_eq!(seen.json()["autoscaling"]["target_cpu_utilization_percentage"], 80);
    assert!(seen.json().get("node_selector").is_none());

    let server = Server::saying(json!({"success": true, "data": function("updating")})).await;
    let change = json!({"$set": {"replicas": 3}});
    client(&server).update_function("f", &change, Some(4)).await.unwrap();
    let seen = server.seen();
    assert_eq!((seen.line().as_str(), seen.json()), ("PUT /function/deployments/f", change));
    assert_eq!(seen.header("if-match"), Some("4"));

    let server = Server::saying(json!({"success": true, "data": null})).await;
    client(&server).remove_function("f").await.unwrap();
    assert_eq!(server.seen().line(), "DELETE /function/deployments/remove/f");
}

#[tokio::test]
async fn calls_and_manages_functions() {
    let server = Server::saying(json!({"success": true, "data": {"allowed": true}})).await;
    assert_eq!(client(&server).call_function("f", &json!(null)).await.unwrap(), json!({"allowed": true}));
    assert_eq!(
        (server.seen().line().as_str(), server.seen().json()),
        ("POST /function/call_function/f", json!(null))
    );

    let fault = json!({"code": "policy_failed", "message": "it raised"});
    let replicas =
        json!([{"replica": 1, "data": {"limit": 5}}, {"replica": 2, "data": null, "error": fault}]);
    let server = Server::saying(json!({"success": true, "data": {"limit": 5}, "replicas": replicas})).await;
    let command = ManageFunction { action: "set_limit".to_owned(), data: object(json!({"limit": 5})) };
    let managed = client(&server).manage_function("f", &command).await.unwrap();
    assert_eq!(managed.data, json!({"limit": 5}));
    assert_eq!((managed.replicas[0].replica, &managed.replicas[0].error), (1, &None));
    assert_eq!(managed.replicas[1].error.as_ref().unwrap().code, "policy_failed");
    let seen = server.seen();
    assert_eq!(seen.line(), "POST /function/management/f");
    assert_eq!(seen.json(), json!({"action": "set_limit", "data": {"limit": 5}}));
}

#[tokio::test]
async fn reads_and_finds_functions() {
    let server = Server::saying(json!({"success": true, "data": function("ready")})).await;
    let found = client(&server).get_function("f", Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!((found.function_status.state, found.function_status.ready), (FunctionState::Ready, 1));
    assert_eq!(server.seen().line(), "GET /function/f?wait=60000ms");

    let server = Server::saying(json!({"success": true, "data": [function("ready")]})).await;
    let filter = json!({"function_tags": {"$in": ["network"]}});
    let found = client(&server).query_functions::<Function>(&filter, &Page::default()).await.unwrap();
    assert_eq!(found.records[0].function_id, "f");
    assert_eq!((server.seen().line().as_str(), server.seen().json()), ("POST /function/query", filter));

    let logs = json!([{"replica": 2, "time": "t", "level": "info", "source": "stdout", "message": "hi"}]);
    for (limit, line) in [(Some(5), "GET /function/f/logs?limit=5"), (None, "GET /function/f/logs")] {
        let server = Server::saying(json!({"success": true, "data": logs})).await;
        let found = client(&server).function_logs("f", limit).await.unwrap();
        assert_eq!((found[0].replica, found[0].record.message.as_str()), (2, "hi"));
        assert_eq!(server.seen().line(), line);
    }
}
