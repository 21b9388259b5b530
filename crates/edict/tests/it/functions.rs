//! Functions: the spec's requests as they stand, and what a function is to its callers.

use crate::support::{Database, Load, TestApp, free_port, policy, policy_source, refusal, reply};
use serde_json::{Value, json};
use std::collections::HashSet;

/// The spec's sample, but for the lists that it fetches over the network.
const ALLOWLIST: &str = r#"
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters

    def eval(self, parameters, input_data, context):
        allowed = input_data["ip"] in parameters["local_allowlist"]
        return {"allowed": allowed, "input_data": input_data, "reason": "allowed" if allowed else "denied"}

    def management(self, action, data):
        if action == "update_local_allowlist":
            self.parameters["local_allowlist"] = data["ips"]
            return {"status": "success", "updated_allowlist": data["ips"]}
        return {"status": "success", "local_allowlist": self.parameters["local_allowlist"]}
"#;

/// A policy that says who answers, and remembers what it was called with.
const WHO: &str = r#"
import uuid
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters, self.calls = rule_id, settings, parameters, 0
        self.me = uuid.uuid4().hex

    def eval(self, parameters, input_data, context):
        if input_data == "context": return context.incr("n")
        if input_data == "print": print("hello from", self.me)
        self.calls += 1
        return [self.me, self.calls, parameters, self.settings]

    def management(self, action, data):
        if action == "set": self.parameters.update(data)
        if action == "unset": self.parameters.pop(data["key"])
        if action == "remember": self.settings["seen"] = self.settings.get("seen", 0) + 1
        return [action, self.me]
"#;

async fn who(app: &TestApp) -> String {
    app.register_record(policy("who", WHO)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_the_spec_work_as_they_stand() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut record: Value = serde_json::from_str(include_str!("spec/policy.json")).unwrap();
        record["code"] = ALLOWLIST.into();
        app.register(&record).await;
        let executor = TestApp::executor("executor-001", &app).start();
        let curl = async |method: &str, path: &str, body: &'static str| {
            let request = app.request(method, path).header("content-type", "application/json");
            let reply = reply(request.body(body)).await;
            (reply.status, reply.json)
        };
        let (status, made) = curl(
            "POST",
            "/function/deployments/create/executor-001",
            r#"{
    "name": "check-ip-fn",
    "policy_rule_uri": "ip_allowlist:1.0-beta",
    "policy_rule_parameters": {
      "local_allowlist": ["10.0.0.1"]
    },
    "replicas": 2,
    "autoscaling": {
      "enabled": true,
      "min_replicas": 1,
      "max_replicas": 5,
      "target_cpu_utilization_percentage": 10
    },
    "function_metadata": {
      "maintainer": "network-team",
      "description": "Checks IP allowlist"
    },
    "function_tags": ["network", "security"]
  }"#,
        )
        .await;
        assert_eq!((status, &made["success"]), (200, &json!(true)), "{made}");
        let function = &made["data"];
        assert_eq!(function["function_id"], "check-ip-fn");
        assert_eq!(function["function_executor_id"], "executor-001");
        assert_eq!(function["function_executor_uri"], executor.url());
        assert_eq!(function["function_metadata"]["maintainer"], "network-team");
        assert_eq!(function["function_policy_rule_uri"], "ip_allowlist:1.0-beta");
        assert_eq!(function["function_policy_data"]["policy_rule_uri"], "ip_allowlist:1.0-beta");

        let call = "/function/call_function/check-ip-fn";
        let (status, called) = curl("POST", call, r#"{"ip": "10.0.0.1"}"#).await;
        assert_eq!((status, &called["data"]["allowed"]), (200, &json!(true)), "{called}");
        assert_eq!(curl("POST", call, r#"{"ip": "10.0.0.2"}"#).await.1["data"]["allowed"], false);

        let (status, read) = curl("GET", "/function/check-ip-fn", "").await;
        assert_eq!((status, &read["data"]["function_tags"]), (200, &json!(["network", "security"])));

        let query = r#"{
    "function_tags": { "$in": ["network"] },
    "function_policy_rule_uri": "ip_allowlist:1.0-beta"
  }"#;
        let (status, found) = curl("POST", "/function/query", query).await;
        assert_eq!((status, &found["data"][0]["function_id"]), (200, &json!("check-ip-fn")), "{found}");

        let (status, _) = curl("DELETE", "/function/deployments/remove/check-ip-fn", "").await;
        assert_eq!(status, 200);
        assert_eq!(refusal(&curl("POST", call, "{}").await), (404, "function_not_found"));
        assert_eq!(curl("GET", "/function/check-ip-fn", "").await.0, 404);
    }
}

/// Without an executor's id, as the spec has it: an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn an_allocator_chooses_the_executor() {
    let app = TestApp::start();
    let _executor = TestApp::executor("e1", &app).setting("node_labels", "zone=a").start();
    let uri = app.add("p", "return 1").await;
    for (name, id) in [("f", ""), ("g", "/")] {
        let deployment = json!({"name": name, "policy_rule_uri": uri, "node_selector": {"zone": "a"}});
        let path = format!("/function/deployments/create{id}?wait=30s");
        let (status, made) = app.json("POST", &path, &deployment).await;
        assert_eq!((status, &made["data"]["function_executor_id"]), (200, &json!("e1")), "{made}");
        assert_eq!(app.called(name, json!(0)).await, 1);
    }
    let nowhere = json!({"name": "h", "policy_rule_uri": uri, "node_selector": {"zone": "b"}});
    for id in ["", "/local", "/e1"] {
        let reply = app.json("POST", &format!("/function/deployments/create{id}"), &nowhere).await;
        assert_eq!(refusal(&reply), (422, "no_executor_fits"), "{}", reply.1);
        assert!(reply.1["error"]["details"]["executors"][0]["reason"].is_string(), "{}", reply.1);
    }
    let more = json!({"node_selector": {"zone": "b"}});
    assert_eq!(refusal(&app.change_function("f", &more).await), (422, "no_executor_fits"));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_keep_their_state_and_share_the_work() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let uri = who(&app).await;
        let function = app.deployed("local", "who", &uri, json!({"replicas": 2})).await;
        let status = &function["function_status"];
        assert_eq!(
            (&status["ready"], &status["desired"], &status["revision"]),
            (&json!(2), &json!(2), &json!(1))
        );
        let mut seen = std::collections::HashMap::new();
        for _ in 0..20 {
            let answer = app.called("who", json!(1)).await;
            let calls = seen.entry(answer[0].as_str().unwrap().to_owned()).or_insert(0);
            *calls += 1;
            assert_eq!(answer[1], *calls, "an instance remembers its calls");
        }
        assert_eq!(seen.len(), 2, "both replicas take their part: {seen:?}");
        assert!(seen.values().all(|calls| *calls > 5), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_parameters_are_the_deployments_over_the_policys() {
    let app = TestApp::start();
    let mut record = policy("who", WHO);
    record["policy_parameters"] = json!({"a": 1, "b": 1});
    record["policy_settings"] = json!({"s": 1});
    let uri = app.register_record(record).await;
    let more = json!({"policy_rule_parameters": {"b": 2}, "policy_rule_settings": {"t": 2}});
    let function = app.deployed("local", "who", &uri, more).await;
    assert_eq!(function["policy_rule_parameters"], json!({"b": 2}));
    let answer = app.called("who", json!(1)).await;
    assert_eq!((&answer[2], &answer[3]), (&json!({"a": 1, "b": 2}), &json!({"s": 1, "t": 2})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_runs_the_policy_as_it_was_deployed_even_when_that_is_gone() {
    let mut app = TestApp::start();
    let uri = app.add("p", "return 'old'").await;
    app.deployed("local", "f", &uri, json!({})).await;
    app.json("PUT", &format!("/policy/{uri}"), &json!({"$set": {"code": policy_source("return 'new'")}}))
        .await;
    assert_eq!(app.called("f", json!(0)).await, "old");
    app.send("DELETE", &format!("/policy/{uri}"), "").await;
    assert_eq!(app.called("f", json!(0)).await, "old");
    // The code is nobody's now but the function's: neither the sweep nor an empty cache may take it away.
    tokio::task::block_in_place(|| app.stop());
    app.sql("UPDATE bundles SET used_at = 1 RETURNING used_at").await;
    std::fs::remove_dir_all(app.data_dir().join("cache/bundles")).unwrap();
    tokio::task::block_in_place(|| app.restart());
    assert_eq!(app.called("f", json!(0)).await, "old");
    let nobodys = "SELECT count(*) FROM bundles WHERE digest NOT IN (SELECT code_digest FROM policies)";
    assert_eq!(app.sql(nobodys).await, 1, "the new code is swept");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_come_back_after_a_restart() {
    for database in Database::each() {
        // Where it was before, so that it is known for the one that ran them before it was killed.
        let mut app = TestApp::builder().database(database).setting("system_port", free_port()).start();
        let uri = who(&app).await;
        app.deployed("local", "who", &uri, json!({"replicas": 2})).await;
        app.command("who", "set", json!({"kept": 1})).await;
        for kill in [false, true] {
            tokio::task::block_in_place(|| {
                if kill {
                    app.kill()
                } else {
                    assert!(app.stop())
                }
                app.restart();
            });
            let answer = app.called("who", json!(1)).await;
            assert_eq!(
                (&answer[1], &answer[2]),
                (&json!(1), &json!({"kept": 1})),
                "a new instance, same parameters"
            );
            assert_eq!(app.settled("who").await["ready"], 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_management_command_reaches_every_replica_and_those_born_later() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let _executor = TestApp::executor("e1", &app).start();
        let uri = who(&app).await;
        for executor in ["local", "e1"] {
            let name = format!("who-{executor}");
            app.deployed(executor, &name, &uri, json!({"replicas": 3, "policy_rule_parameters": {"a": 1}}))
                .await;
            let (status, told) = app.command(&name, "set", json!({"b": 2})).await;
            assert_eq!((status, &told["data"][0]), (200, &json!("set")), "{told}");
            let answers = told["replicas"].as_array().unwrap();
            let whose: HashSet<&str> =
                answers.iter().map(|answer| answer["data"][1].as_str().unwrap()).collect();
            assert_eq!((answers.len(), whose.len()), (3, 3), "{told}");
            assert_eq!(told["data"], answers[0]["data"], "the first one's answer");
            for _ in 0..6 {
                assert_eq!(app.called(&name, json!(1)).await[2], json!({"a": 1, "b": 2}));
            }
            app.command(&name, "unset", json!({"key": "a"})).await;
            app.command(&name, "remember", json!({})).await;
            // Born later: by scaling, and by a restart of what there was.
            app.change_function(&name, &json!({"replicas": 4})).await;
            let seen = answers_of_all(&app, &name, 4).await;
            assert!(
                seen.iter().all(|answer| answer[2] == json!({"b": 2}) && answer[3] == json!({"seen": 1})),
                "{seen:?}"
            );
            let (_, changes) = app.get(&format!("/function/{name}/changes")).await;
            assert_eq!(changes["data"]["removed_parameters"], json!(["a"]), "{changes}");
            // What a PUT sets is the last word.
            let put = json!({"policy_rule_parameters": {"b": 3}});
            assert_eq!(app.change_function(&name, &put).await.0, 200);
            let seen = answers_of_all(&app, &name, 4).await;
            assert!(
                seen.iter().all(|answer| answer[2]["b"] == 3 && answer[3] == json!({"seen": 1})),
                "{seen:?}"
            );
        }
    }
}

/// One answer of each of `count` replicas.
async fn answers_of_all(app: &TestApp, name: &str, count: usize) -> Vec<Value> {
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..1000 {
        let answer = app.called(name, json!(1)).await;
        seen.insert(answer[0].as_str().unwrap().to_owned(), answer);
        if seen.len() == count {
            return seen.into_values().collect();
        }
    }
    panic!("only {} replicas of {count} answered", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_is_the_functions_own_and_goes_with_it() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let _executor = TestApp::executor("e1", &app).start();
        let uri = who(&app).await;
        for executor in ["local", "e1"] {
            app.deployed(executor, "a", &uri, json!({"replicas": 2})).await;
            app.deployed(executor, "b", &uri, json!({})).await;
            for expected in 1..=4 {
                assert_eq!(app.called("a", json!("context")).await, expected, "shared by its replicas");
            }
            assert_eq!(app.called("b", json!("context")).await, 1, "and nobody else's");
            let (_, value) = app.json("POST", "/function/a/context", &json!({"op": "get", "key": "n"})).await;
            assert_eq!(value["data"]["value"], 4, "{value}");
            for name in ["a", "b"] {
                assert_eq!(
                    app.send("DELETE", &format!("/function/deployments/remove/{name}"), "").await.0,
                    200
                );
            }
            assert_eq!(app.sql("SELECT count(*) FROM context").await, 0);
            assert_eq!(app.sql("SELECT count(*) FROM function_changes").await, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_all_replicas_can_be_read() {
    let app = TestApp::start();
    let _executor = TestApp::executor("e1", &app).start();
    let uri = who(&app).await;
    for executor in ["local", "e1"] {
        let name = format!("f-{executor}");
        app.deployed(executor, &name, &uri, json!({"replicas": 2})).await;
        for _ in 0..4 {
            app.called(&name, json!("print")).await;
        }
        let lines = async |query: &str| app.get(&format!("/function/{name}/logs{query}")).await;
        let end = std::time::Instant::now() + crate::support::PATIENCE;
        while lines("").await.1["data"].as_array().unwrap().len() < 4 {
            assert!(std::time::Instant::now() < end, "{}", lines("").await.1);
        }
        let (_, all) = lines("").await;
        let all = all["data"].as_array().unwrap();
        assert!(
            all.iter().all(|line| line["message"].as_str().unwrap().starts_with("hello from ")),
            "{all:?}"
        );
        let replicas: HashSet<u64> = all.iter().map(|line| line["replica"].as_u64().unwrap()).collect();
        assert_eq!(replicas.len(), 2, "{all:?}");
        assert_eq!(lines("?limit=1").await.1["data"].as_array().unwrap().len(), 1);
        assert_eq!(refusal(&lines("?limit=0").await), (400, "invalid_parameter"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_outputs_fit_the_schemas() {
    let app = TestApp::start();
    let mut record =
        policy("checked", &policy_source("return {'n': input_data['n'] * parameters.get('by', 1)}"));
    record["policy_input_schema"] = json!({"n": {"type": "number", "required": true}});
    record["policy_output_schema"] = json!({"n": {"type": "number", "max": 100}});
    let uri = app.register_record(record).await;
    app.deployed("local", "f", &uri, json!({})).await;
    assert_eq!(app.called("f", json!({"n": 7})).await, json!({"n": 7}));
    assert_eq!(refusal(&app.call("f", json!({"n": "x"})).await), (422, "input_invalid"));
    assert_eq!(refusal(&app.call("f", json!({"n": 101})).await), (502, "policy_output_invalid"));
    assert_eq!(refusal(&app.send("POST", "/function/call_function/f", "{").await), (400, "malformed_json"));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(app.send("POST", "/function/call_function/f", deep).await.0, 400);
}

/// Real load, real CPU, short windows.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_replicas_follows_the_load() {
    let app = TestApp::builder().setting("autoscale_seconds", 1).start();
    let burn =
        "import time\nend = time.process_time() + 0.02\nwhile time.process_time() < end: pass\nreturn 1";
    let uri = app.add("burn", burn).await;
    let rule = json!({
        "min_replicas": 1, "max_replicas": 3, "target_cpu_utilization_percentage": 10,
        "scale_down_stabilization_seconds": 2
    });
    app.deployed("local", "burn", &uri, json!({"autoscaling": rule})).await;
    let load = Load::start(&app, "burn", &json!(0), 4);
    let grown = app.status_when("burn", |status| status["ready"] == 3).await;
    assert_eq!(grown["desired"], 3);
    let replies = load.stop().await;
    assert!(replies.iter().all(|(status, _)| *status == 200), "scaling fails no call");
    let shrunk = app.status_when("burn", |status| status["ready"] == 1 && status["state"] == "ready").await;
    assert_eq!((&shrunk["desired"], &shrunk["restarts"]), (&json!(1), &json!(0)), "{shrunk}");
}
