//! Every method reaches its route with the right request, and reads its reply.

use crate::server::Server;
use edict_client::records::{
    ContextOp, ExecutePolicy, Executor, ExecutorStatus, Heartbeat, Manage, Object, Policy, PolicyState,
};
use edict_client::{Client, Page};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn client(server: &Server) -> Client {
    Client::new(&server.url, None).unwrap()
}

fn policy() -> Value {
    json!({"policy_rule_uri": "a:1-b", "name": "a", "version": "1", "release_tag": "b", "code": "x", "revision": 3})
}

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn creates_a_policy_and_passes_warnings_on() {
    let reply = json!({"success": true, "data": policy(), "warnings": ["not reached yet"]});
    let server = Server::saying(reply).await;
    let stored = client(&server).create_policy(&policy(), true).await.unwrap();
    assert_eq!(stored.record.uri(), "a:1-b");
    assert_eq!(stored.warnings, ["not reached yet"]);
    assert_eq!(stored.moved_to, None);
    let seen = server.seen();
    assert_eq!(seen.line(), "POST /policy?verify=true");
    assert_eq!(seen.json(), policy());
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn creates_a_policy_from_its_typed_record() {
    let server = Server::saying(json!({"success": true, "data": policy()})).await;
    let typed: Policy = serde_json::from_value(policy()).unwrap();
    assert_eq!(client(&server).create_policy(&typed, false).await.unwrap().record, typed);
    assert_eq!(server.seen().line(), "POST /policy");
    assert_eq!(server.seen().json()["type"], "python_class_v1");
}

#[tokio::test]
async fn updates_only_the_revision_that_was_seen() {
    let server = Server::saying(json!({"success": true, "data": policy(), "moved_to": "a:2-b"})).await;
    let change = json!({"$set": {"version": "2"}});
    let stored = client(&server).update_policy("a:1-b", &change, Some(3)).await.unwrap();
    assert_eq!(stored.moved_to.as_deref(), Some("a:2-b"));
    let seen = server.seen();
    assert_eq!(seen.line(), "PUT /policy/a:1-b");
    assert_eq!(seen.header("if-match"), Some("3"));
    assert_eq!(seen.json(), change);
}

#[tokio::test]
async fn updates_any_revision_when_none_is_given() {
    let server = Server::saying(json!({"success": true, "data": policy()})).await;
    client(&server).update_policy("a:1-b", &policy(), None).await.unwrap();
    assert_eq!(server.seen().header("if-match"), None);
}

#[tokio::test]
async fn names_are_encoded_into_their_path_segment() {
    let server = Server::saying(json!({"success": true, "data": policy()})).await;
    client(&server).get_policy("a/../b?c#d é%2f").await.unwrap();
    assert_eq!(server.seen().line(), "GET /policy/a%2F..%2Fb%3Fc%23d%20%C3%A9%252f");
}

#[tokio::test]
async fn a_server_can_live_below_a_path() {
    let server = Server::saying(json!({"success": true, "data": policy()})).await;
    let client = Client::new(&format!("{}/edict/", server.url), None).unwrap();
    client.get_policy("a:1-b").await.unwrap();
    assert_eq!(server.seen().line(), "GET /edict/policy/a:1-b");
    assert_eq!(client.url(), format!("{}/edict", server.url));
}

#[tokio::test]
async fn deletes_whatever_the_reply_holds() {
    for data in [json!(null), policy(), json!({"deleted": true})] {
        let server = Server::saying(json!({"success": true, "data": data})).await;
        client(&server).delete_policy("a:1-b").await.unwrap();
        assert_eq!(server.seen().line(), "DELETE /policy/a:1-b");
    }
}

#[tokio::test]
async fn queries_with_every_option() {
    let server = Server::saying(json!({"success": true, "data": [{"name": "a"}], "has_more": true})).await;
    let filter = json!({"tags": {"$regex": "x"}});
    let page = Page {
        limit: Some(5),
        skip: Some(10),
        sort: vec!["-updated_at".to_owned(), "name".to_owned()],
        fields: vec!["name".to_owned()],
    };
    let found = client(&server).query_policies::<Object>(&filter, &page).await.unwrap();
    assert!(found.has_more);
    assert_eq!(found.records, [object(json!({"name": "a"}))]);
    let seen = server.seen();
    assert_eq!(seen.line(), "POST /policy/query?limit=5&skip=10&sort=-updated_at%2Cname&fields=name");
    assert_eq!(seen.json(), filter);
}

#[tokio::test]
async fn queries_are_plain_by_default() {
    let server = Server::saying(json!({"success": true, "data": [policy()]})).await;
    let found = client(&server).query_policies::<Policy>(&json!({}), &Page::default()).await.unwrap();
    assert!(!found.has_more && found.records[0].revision == 3);
    assert_eq!(server.seen().line(), "POST /policy/query");
}

#[tokio::test]
async fn downloads_a_policys_code() {
    let headers = &[("x-edict-code-format", "source"), ("x-edict-code-digest", "abc")];
    let server = Server::replying(200, headers, "class AIOSv1PolicyRule: …").await;
    let code = client(&server).policy_code("a:1-b").await.unwrap();
    assert_eq!((code.format.as_str(), code.digest.as_str()), ("source", "abc"));
    assert_eq!(code.content, "class AIOSv1PolicyRule: …");
    assert_eq!(server.seen().line(), "GET /policy/a:1-b/code");
}

#[tokio::test]
async fn works_on_a_policys_context() {
    let server = Server::saying(json!({"success": true, "data": 4})).await;
    let operation = ContextOp::Incr { key: "hits".to_owned(), by: 3.into() };
    assert_eq!(client(&server).policy_context("a:1-b", &operation).await.unwrap(), json!(4));
    assert_eq!(server.seen().line(), "POST /policy/a:1-b/context");
    assert_eq!(server.seen().json(), json!({"op": "incr", "key": "hits", "by": 3}));
}

#[tokio::test]
async fn runs_a_policy_with_its_input_as_written() {
    let logs = json!([{"time": "t", "level": "info", "source": "stdout", "message": "hi"}]);
    let server = Server::saying(json!({"success": true, "data": {"allowed": true}, "logs": logs})).await;
    let input = r#"{"amount": 1.10000000000000000001}"#;
    let run = ExecutePolicy {
        policy_rule_uri: "a:1-b".to_owned(),
        input_data: RawValue::from_string(input.to_owned()).unwrap(),
        parameters: Some(object(json!({"limit": 1}))),
        settings: None,
    };
    let done = client(&server).execute_policy("local", &run, true).await.unwrap();
    assert_eq!(done.data, json!({"allowed": true}));
    assert_eq!(done.logs.unwrap()[0].message, "hi");
    let seen = server.seen();
    assert_eq!(seen.line(), "POST /executor/local/execute_policy?logs=true");
    let body = String::from_utf8(seen.body.to_vec()).unwrap();
    assert!(body.contains(input) && body.contains(r#""parameters":{"limit":1}"#), "{body}");
    assert!(!body.contains("settings"), "{body}");
}

#[tokio::test]
async fn passes_raw_runs_on_in_both_directions() {
    let text = "{\"success\": false,  \"anything\": 1.10}";
    let server = Server::replying(502, &[], text).await;
    let body = r#"{"policy_rule_uri":  "a:1-b"}"#;
    let (status, reply) = client(&server).execute_raw("e1", body.into(), "logs=true&x=1").await.unwrap();
    assert_eq!((status.as_u16(), reply.as_ref()), (502, text.as_bytes()));
    let seen = server.seen();
    assert_eq!(seen.line(), "POST /executor/e1/execute_policy?logs=true&x=1");
    assert_eq!(seen.body, body);
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn sends_management_commands() {
    let server = Server::saying(json!({"success": true, "data": {"limit": 5}})).await;
    let command = Manage {
        policy_rule_uri: "a:1-b".to_owned(),
        action: "set_limit".to_owned(),
        data: object(json!({"limit": 5})),
    };
    let reply = client(&server).execute_mgmt_command("local", &command).await.unwrap();
    assert_eq!(reply, json!({"limit": 5}));
    assert_eq!(server.seen().line(), "POST /executor/local/execute_mgmt_command");
    let body = json!({"policy_rule_uri": "a:1-b", "action": "set_limit", "data": {"limit": 5}});
    assert_eq!(server.seen().json(), body);
}

#[tokio::test]
async fn reads_and_writes_executors() {
    let record = json!({"executor_id": "e1", "executor_status": "busy"});
    let server = Server::saying(json!({"success": true, "data": record})).await;
    let executor = client(&server).get_executor("e1").await.unwrap();
    assert_eq!(executor.executor_status, ExecutorStatus::Busy);
    assert_eq!(server.seen().line(), "GET /executor/e1");

    let server = Server::saying(json!({"success": true, "data": record})).await;
    client(&server).create_executor(&record).await.unwrap();
    assert_eq!(server.seen().line(), "POST /executor");

    let server = Server::saying(json!({"success": true, "data": record})).await;
    client(&server).update_executor("e1", &json!({"$set": {"metadata.a": 1}}), Some(1)).await.unwrap();
    assert_eq!(server.seen().line(), "PUT /executor/e1");

    let server = Server::saying(json!({"success": true, "data": [record]})).await;
    let found = client(&server).query_executors::<Executor>(&json!({}), &Page::default()).await.unwrap();
    assert_eq!(found.records, [executor]);
    assert_eq!(server.seen().line(), "POST /executor/query");

    let server = Server::saying(json!({"success": true})).await;
    client(&server).delete_executor("e1").await.unwrap();
    assert_eq!(server.seen().line(), "DELETE /executor/e1");
}

#[tokio::test]
async fn an_executor_reports_itself() {
    let server = Server::saying(json!({"success": true, "data": null})).await;
    let heartbeat = Heartbeat {
        instance_id: "i".to_owned(),
        executor_host_uri: Some("http://h:10250".to_owned()),
        executor_token: "t".to_owned(),
        executor_status: ExecutorStatus::Healthy,
        executor_metadata: Object::new(),
        executor_load: None,
        executor_hardware_info: object(json!({"memory": 5})),
    };
    client(&server).heartbeat("e1", &heartbeat).await.unwrap();
    assert_eq!(server.seen().line(), "PUT /executor/e1/heartbeat");
    assert_eq!(server.seen().json()["executor_hardware_info"], json!({"memory": 5}));
}

#[tokio::test]
async fn keeps_what_management_changed() {
    let state = PolicyState { parameters: object(json!({"limit": 5})), ..PolicyState::default() };
    let server = Server::saying(json!({"success": true, "data": state})).await;
    assert_eq!(client(&server).policy_state("e1", "a:1-b").await.unwrap(), state);
    assert_eq!(server.seen().line(), "GET /executor/e1/policy_state/a:1-b");

    let server = Server::saying(json!({"success": true, "data": state})).await;
    client(&server).change_policy_state("e1", "a:1-b", &state).await.unwrap();
    assert_eq!(server.seen().line(), "PATCH /executor/e1/policy_state/a:1-b");
    assert_eq!(server.seen().json(), json!({"settings": {}, "parameters": {"limit": 5}}));
}

#[tokio::test]
async fn health_and_readiness_need_no_envelope() {
    let server = Server::replying(200, &[], "ok").await;
    client(&server).health().await.unwrap();
    assert_eq!(server.seen().line(), "GET /healthz");
    let server = Server::replying(200, &[], "").await;
    client(&server).ready().await.unwrap();
    assert_eq!(server.seen().line(), "GET /readyz");
}
