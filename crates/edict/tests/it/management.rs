//! `POST /executor/<id>/execute_mgmt_command`: commands, and what they change for later runs.

use crate::support::{Database, EDICT, SAMPLE, TestApp, policy, policy_source, refusal};
use serde_json::{Value, json};
use std::process::Command;

const URI: &str = "ip_allowlist:1.0-beta";

/// Registers the sample as its users do.
fn push_sample(app: &TestApp) {
    let pushed = Command::new(EDICT).args(["--url", &app.url(), "policy", "push", SAMPLE]).output().unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
}

async fn allowed(app: &TestApp, executor: &str, ip: &str) -> bool {
    let (status, reply) = app.run_on(executor, URI, json!({"ip": ip})).await;
    assert_eq!(status, 200, "{reply}");
    reply["data"]["allowed"].as_bool().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_changes_counts_for_later_runs_and_survives_restarts() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        push_sample(&app);
        assert!(allowed(&app, "local", "127.0.0.1").await && !allowed(&app, "local", "192.168.0.100").await);
        let ips = json!(["192.168.0.100", "192.168.0.102"]);
        let (status, reply) = app.manage("local", URI, "update_local_allowlist", json!({"ips": ips})).await;
        assert_eq!(status, 200, "{reply}");
        assert_eq!(reply["data"], json!({"status": "success", "updated_allowlist": ips}));
        assert!(allowed(&app, "local", "192.168.0.100").await && !allowed(&app, "local", "127.0.0.1").await);
        // The record itself is as it was: the change belongs to this executor.
        let (_, record) = app.get(&format!("/policy/{URI}")).await;
        assert_eq!(record["data"]["policy_parameters"]["local_allowlist"][0], "127.0.0.1");
        assert_eq!(record["data"]["revision"], 1);

        app.kill();
        app.restart();
        assert!(allowed(&app, "local", "192.168.0.100").await && !allowed(&app, "local", "127.0.0.1").await);
        let (_, state) = app.manage("local", URI, "get_state", json!({})).await;
        assert_eq!(state["data"]["local_allowlist"], ips, "{state}");

        // A caller's own parameters win over it, for that run.
        let run = json!({"policy_rule_uri": URI, "input_data": {"ip": "10.1.1.1"}, "parameters": {"local_allowlist": ["10.1.1.1"]}});
        let (_, reply) = app.json("POST", "/executor/local/execute_policy", &run).await;
        assert_eq!(reply["data"]["allowed"], true);

        // And the next one who changes the parameter in the record wins over the command.
        let change = json!({"$set": {"policy_parameters.local_allowlist": ["10.0.0.1"]}});
        let (status, _) = app.json("PUT", &format!("/policy/{URI}"), &change).await;
        assert_eq!(status, 200);
        assert!(allowed(&app, "local", "10.0.0.1").await && !allowed(&app, "local", "192.168.0.100").await);
        // A change of something else leaves a command's change alone.
        app.manage("local", URI, "update_local_allowlist", json!({"ips": ["10.0.0.2"]})).await;
        app.json("PUT", &format!("/policy/{URI}"), &json!({"$set": {"description": "other"}})).await;
        assert!(allowed(&app, "local", "10.0.0.2").await && !allowed(&app, "local", "10.0.0.1").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_executor_keeps_its_own_changes() {
    let app = TestApp::start();
    push_sample(&app);
    let executor = TestApp::executor("e1", &app).start();
    let (status, reply) = app.manage("e1", URI, "update_local_allowlist", json!({"ips": ["10.0.0.9"]})).await;
    assert_eq!(status, 200, "{reply}");
    assert!(allowed(&app, "e1", "10.0.0.9").await && !allowed(&app, "local", "10.0.0.9").await);
    app.manage("local", URI, "update_local_allowlist", json!({"ips": ["10.0.0.8"]})).await;
    assert!(allowed(&app, "local", "10.0.0.8").await && !allowed(&app, "e1", "10.0.0.8").await);
    let (_, state) = app.get(&format!("/executor/e1/policy_state/{URI}")).await;
    assert_eq!(state["data"], json!({"settings": {}, "parameters": {"local_allowlist": ["10.0.0.9"]}}));
    // A new process under the same id has what the old one had learnt.
    drop(executor);
    let _executor = TestApp::executor("e1", &app).start();
    assert!(allowed(&app, "e1", "10.0.0.9").await);
    // The record's next writer wins on all of them.
    let change = json!({"$set": {"policy_parameters.local_allowlist": ["10.0.0.1"]}});
    app.json("PUT", &format!("/policy/{URI}"), &change).await;
    for executor in ["local", "e1"] {
        assert!(allowed(&app, executor, "10.0.0.1").await && !allowed(&app, executor, "10.0.0.9").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_checked_against_their_schema() {
    let app = TestApp::start();
    push_sample(&app);
    let reply = app.manage("local", URI, "update_local_alowlist", json!({"ips": []})).await;
    assert_eq!(refusal(&reply), (422, "command_invalid"), "{}", reply.1);
    assert!(
        reply.1["message"].as_str().unwrap().contains("did you mean `update_local_allowlist`?"),
        "{}",
        reply.1
    );
    for (data, pointer) in [
        (json!({"ips": "10.0.0.1"}), "/ips"),
        (json!({"ips": ["10.0.0.1", "not an address"]}), "/ips/1"),
        (json!({"ips": [5]}), "/ips/0"),
    ] {
        let reply = app.manage("local", URI, "update_local_allowlist", data).await;
        assert_eq!(refusal(&reply), (422, "command_invalid"), "{}", reply.1);
        assert_eq!(reply.1["error"]["details"]["faults"][0]["pointer"], pointer, "{}", reply.1);
    }
    let reply = app.manage("local", URI, "update_local_allowlist", json!({})).await;
    assert_eq!(refusal(&reply), (422, "command_invalid"), "{}", reply.1);
    let reply = app.manage("local", URI, "update_local_allowlist", json!([1])).await;
    assert_eq!(refusal(&reply), (400, "invalid_field"), "{}", reply.1);
    let reply = app.manage("local", "nowhere:1-x", "get_state", json!({})).await;
    assert_eq!(refusal(&reply), (404, "policy_not_found"), "{}", reply.1);
    assert!(allowed(&app, "local", "127.0.0.1").await, "a refused command changed something");
}

const MANAGED: &str = r#"
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters

    def eval(self, parameters, input_data, context):
        return {"settings": self.settings, "parameters": parameters, "note": context.get("note")}

    def management(self, action, data):
        print("managing", action)
        if action == "replace":
            self.parameters = data
        if action == "settings":
            self.settings.update(data)
        if action == "drop":
            del self.parameters[data["key"]]
        if action == "fail":
            self.parameters["level"] = 99
            raise ValueError("no such level")
        if action == "bad":
            self.parameters["level"] = {1, 2}
        if action == "unfit":
            self.parameters["level"] = "high"
        if action == "hang":
            while True: pass
        return {"action": action}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn commands_may_change_settings_and_parameters_in_any_way() {
    let app = TestApp::start();
    let mut record = policy("managed", MANAGED);
    record["policy_parameters"] = json!({"level": 1, "keep": [1]});
    record["policy_settings"] = json!({"mode": "a"});
    record["policy_parameters_schema"] = json!({"level": {"type": "number"}});
    record["execution_limits"] = json!({"timeout_ms": 1000});
    let uri = app.register_record(record).await;
    let now = async || app.result(&uri, json!(0)).await;
    let own = json!({"settings": {"mode": "a"}, "parameters": {"level": 1, "keep": [1]}, "note": null});
    // Commands that fail change nothing.
    for (action, status, code) in [
        ("fail", 502, "policy_failed"),
        ("bad", 502, "policy_output_invalid"),
        ("unfit", 502, "policy_output_invalid"),
        ("hang", 504, "policy_timeout"),
    ] {
        let reply = app.manage("local", &uri, action, json!({})).await;
        assert_eq!(refusal(&reply), (status, code), "{action}: {}", reply.1);
        assert_eq!(now().await, own, "after {action}");
    }
    let (status, reply) =
        app.manage("local", &uri, "settings", json!({"mode": "b", "é": {"x": [1.5, null]}})).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(now().await["settings"], json!({"mode": "b", "é": {"x": [1.5, null]}}));
    // Without a list of commands in the record any is passed on, and the policy's own answer comes back.
    let (_, reply) = app.manage("local", &uri, "anything", json!({"a": 1})).await;
    assert_eq!(reply["data"], json!({"action": "anything"}));
    app.manage("local", &uri, "replace", json!({"level": 2, "new": true})).await;
    let parameters = now().await["parameters"].clone();
    assert_eq!((&parameters["level"], &parameters["new"]), (&json!(2), &json!(true)), "{parameters}");
    assert_eq!(parameters.get("keep"), None, "a parameter that a command removed is back");
    app.manage("local", &uri, "drop", json!({"key": "new"})).await;
    assert_eq!(now().await["parameters"], json!({"level": 2}), "a parameter that a command removed is back");
    let request = json!({"policy_rule_uri": uri, "action": "x", "data": {}});
    let (_, reply) = app.json("POST", "/executor/local/execute_mgmt_command?logs=true", &request).await;
    assert_eq!(reply["logs"][0]["message"], "managing x", "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_sent_at_once_are_all_kept() {
    let app = TestApp::start();
    let source = policy_source("return parameters")
        + "\n    def management(self, action, data):\n        self.parameters[action] = 1\n";
    let uri = app.register_record(policy("managed", &source)).await;
    let names: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    let commands = names.iter().map(|name| app.manage("local", &uri, name, json!({})));
    for (status, reply) in futures::future::join_all(commands).await {
        assert_eq!((status, &reply["data"]), (200, &Value::Null), "{reply}");
    }
    let result = app.result(&uri, json!(0)).await;
    assert_eq!(result.as_object().unwrap().len(), 20, "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_management_says_so() {
    let app = TestApp::start();
    let uri = app.add("plain", "return 1").await;
    let reply = app.manage("local", &uri, "anything", json!({})).await;
    assert_eq!(refusal(&reply), (422, "command_invalid"), "{}", reply.1);
    assert!(reply.1["message"].as_str().unwrap().contains("management"), "{}", reply.1);
}
