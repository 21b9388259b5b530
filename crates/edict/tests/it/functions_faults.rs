//! What can go wrong with functions: each fault has its answer, and everything converges afterwards.

use crate::support::{Database, Load, PATIENCE, TestApp, policy, policy_source, refusal};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

/// A policy that can be told to do what breaks things; it answers which instance it is.
const FRAGILE: &str = r#"
import os, tempfile, time, uuid
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters
        self.me = uuid.uuid4().hex

    def eval(self, parameters, input_data, context):
        if input_data == "hold":
            # Seen from outside as an open file, by which the process is found.
            with open(os.path.join(tempfile.gettempdir(), "held"), "w"): time.sleep(60)
        if input_data == "raise": raise LookupError("asked to")
        if input_data == "sleep": time.sleep(60)
        if input_data == "nap": time.sleep(0.3)
        return self.me

    def management(self, action, data):
        self.parameters["n"] = self.parameters.get("n", 0) + 1
        if action == "raise": raise LookupError("asked to")
        return self.me
"#;

/// Calls a function and kills the replica that has begun with the call.
async fn killed_in_a_call(app: &TestApp, executor: &TestApp, name: &str) -> (u16, Value) {
    let killer = async {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(pid) = executor.process_with_open_file("held") {
                kill(pid);
                return;
            }
            assert!(Instant::now() < end, "the call does not begin");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    futures::future::join(app.call(name, json!("hold")), killer).await.0
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

async fn fragile(app: &TestApp) -> String {
    app.register_limited("fragile", FRAGILE, json!({"timeout_ms": 5000})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deployed_is_refused() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("max_replicas", 4).start();
        let uri = app.add("p", "return 1").await;
        let mut record = policy("strict", &policy_source("return 1"));
        record["policy_parameters_schema"] = json!({"n": {"type": "number", "required": true}});
        record["policy_settings_schema"] = json!({"s": {"type": "string"}});
        let strict = app.register_record(record).await;
        let unreachable = app.register_record(policy("later", "http://127.0.0.1:9/code.zip")).await;
        app.deployed("local", "taken", &uri, json!({})).await;
        let rule = |min: u32, max: u32| json!({"autoscaling": {"min_replicas": min, "max_replicas": max}});
        let (good, picky, later) = (uri.as_str(), strict.as_str(), unreachable.as_str());
        let cases = [
            ("nowhere", "f", good, json!({}), (404, "executor_not_found")),
            ("local", "f", "no:1-such", json!({}), (404, "policy_not_found")),
            ("local", "f", later, json!({}), (422, "code_unreachable")),
            ("local", "taken", good, json!({}), (409, "function_exists")),
            ("local", "", good, json!({}), (400, "invalid_name")),
            ("local", "a/b", good, json!({}), (400, "invalid_name")),
            ("local", "a b", good, json!({}), (400, "invalid_name")),
            ("local", "..", good, json!({}), (400, "invalid_name")),
            ("local", "query", good, json!({}), (400, "invalid_name")),
            ("local", "f", good, json!({"replicas": 0}), (400, "invalid_field")),
            ("local", "f", good, json!({"replicas": -1}), (400, "invalid_field")),
            ("local", "f", good, json!({"replica": 1}), (400, "unknown_field")),
            ("local", "f", good, json!({"function_metadata": {"a": "\0"}}), (400, "invalid_field")),
            ("local", "f", good, rule(3, 2), (422, "invalid_autoscaling")),
            ("local", "f", good, rule(0, 2), (422, "invalid_autoscaling")),
            (
                "local",
                "f",
                good,
                json!({"replicas": 3, "autoscaling": {"max_replicas": 2}}),
                (422, "invalid_autoscaling"),
            ),
            ("local", "f", good, json!({"replicas": 4}), (422, "no_executor_fits")),
            ("local", "f", picky, json!({}), (422, "parameters_invalid")),
            (
                "local",
                "f",
                picky,
                json!({"policy_rule_parameters": {"n": 1}, "policy_rule_settings": {"s": 1}}),
                (422, "settings_invalid"),
            ),
        ];
        for (executor, name, uri, more, expected) in cases {
            let reply = app.deploy(executor, name, uri, more).await;
            assert_eq!(refusal(&reply), expected, "{name:?}: {}", reply.1);
        }
        let long = app.deploy("local", &"x".repeat(129), &uri, json!({})).await;
        assert_eq!(refusal(&long), (400, "invalid_name"));
        app.deployed("local", &"x".repeat(128), &uri, json!({})).await;
        for (method, path) in [
            ("POST", "/function/call_function/nobody"),
            ("POST", "/function/management/nobody"),
            ("GET", "/function/nobody"),
            ("GET", "/function/nobody/logs"),
            ("PUT", "/function/deployments/nobody"),
            ("DELETE", "/function/deployments/remove/nobody"),
        ] {
            let reply = app.send(method, path, r#"{"action": "a"}"#).await;
            assert_eq!(refusal(&reply), (404, "function_not_found"), "{method} {path}: {}", reply.1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_costs_its_caller_the_call_and_nobody_else_anything() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let executor = TestApp::executor("e1", &app).start();
        let uri = fragile(&app).await;
        for (id, process) in [("local", &app), ("e1", &executor)] {
            app.deployed(id, "f", &uri, json!({"replicas": 2})).await;
            let load = Load::start(&app, "f", &json!("x"), 3);
            for deaths in 1..=3 {
                let reply = killed_in_a_call(&app, process, "f").await;
                assert_eq!(refusal(&reply), (502, "policy_crashed"), "{}", reply.1);
                assert!(reply.1["message"].as_str().unwrap().contains("SIGKILL"), "{}", reply.1);
                app.status_when("f", |status| status["restarts"] == deaths && status["state"] == "ready")
                    .await;
            }
            let replies = load.stop().await;
            assert!(replies.len() > 10);
            let failed: Vec<_> = replies.iter().filter(|(status, _)| *status != 200).collect();
            assert!(failed.is_empty(), "{failed:?}");
            app.send("DELETE", "/function/deployments/remove/f", "").await;
        }
    }
}

/// One replica only: calls that wait for it are answered by the one in its place.
#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_for_the_replacement() {
    let app = TestApp::start();
    let uri = fragile(&app).await;
    app.deployed("local", "f", &uri, json!({})).await;
    let first = app.called("f", json!("x")).await;
    let load = Load::start(&app, "f", &json!("nap"), 4);
    assert_eq!(refusal(&killed_in_a_call(&app, &app, "f").await), (502, "policy_crashed"));
    app.status_when("f", |status| status["restarts"] == 1 && status["state"] == "ready").await;
    let replies = load.stop().await;
    assert!(replies.iter().all(|(status, _)| *status == 200), "{replies:?}");
    assert_ne!(app.called("f", json!("x")).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_policy_leave_the_session_and_exceeded_time_ends_it() {
    let app = TestApp::start();
    let uri = fragile(&app).await;
    app.deployed("local", "f", &uri, json!({})).await;
    let first = app.called("f", json!("x")).await;
    let reply = app.call("f", json!("raise")).await;
    assert_eq!(refusal(&reply), (502, "policy_failed"));
    assert_eq!(reply.1["error"]["details"]["type"], "LookupError");
    assert_eq!(app.called("f", json!("x")).await, first, "the same instance");
    for _ in 0..2 {
        assert_eq!(refusal(&app.call("f", json!("sleep")).await), (504, "policy_timeout"));
        assert_ne!(app.called("f", json!("x")).await, first, "another one in its place");
    }
    let status = app.settled("f").await;
    assert_eq!(status["restarts"], 2, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_429() {
    let app = TestApp::builder().setting("function_queue", 2).start();
    let uri = app.add("slow", "import time\ntime.sleep(1)\nreturn 1").await;
    app.deployed("local", "slow", &uri, json!({})).await;
    app.called("slow", json!(0)).await;
    let input = json!(0);
    let calls = (0..8).map(|_| app.respond("/function/call_function/slow", &input));
    let replies = futures::future::join_all(calls).await;
    let busy: Vec<_> = replies.iter().filter(|reply| reply.status() == 429).collect();
    assert!(!busy.is_empty() && busy.len() < 8, "{replies:?}");
    assert!(busy.iter().all(|reply| reply.headers().contains_key("retry-after")));
    assert!(replies.iter().all(|reply| [200, 429].contains(&reply.status().as_u16())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_start_says_why() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let source = "raise RuntimeError('no luck today')\nclass AIOSv1PolicyRule:\n    def eval(self, p, i, c): pass\n";
        let uri = app.register_record(policy("broken", source)).await;
        let (status, made) = app.deploy("local", "f", &uri, json!({"replicas": 2})).await;
        assert_eq!(status, 200, "{made}");
        let told = &made["data"]["function_status"];
        assert_eq!((&told["state"], &told["ready"]), (&json!("failed"), &json!(0)), "{told}");
        assert_eq!(told["error"]["code"], "policy_load_failed");
        let reply = app.call("f", json!(0)).await;
        assert_eq!(refusal(&reply), (503, "function_unavailable"));
        assert!(reply.1["message"].as_str().unwrap().contains("no luck today"), "{}", reply.1);
        // A policy that is mended, and named again, mends the function.
        let good = policy_source("return 'mended'");
        app.json("PUT", &format!("/policy/{uri}"), &json!({"$set": {"code": good}})).await;
        let (_, made) = app.change_function("f", &json!({"policy_rule_uri": uri})).await;
        assert_eq!(made["data"]["function_status"]["state"], "ready", "{made}");
        assert_eq!(app.called("f", json!(0)).await, "mended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_changes_nothing() {
    let app = TestApp::start();
    let mut record = policy("fragile", FRAGILE);
    record["management_commands_schema"] =
        json!([{"name": "raise", "schema": {}}, {"name": "bump", "schema": {"by": {"type": "number"}}}]);
    let uri = app.register_record(record).await;
    app.deployed("local", "f", &uri, json!({"replicas": 2})).await;
    assert_eq!(refusal(&app.command("f", "raise", json!({})).await), (502, "policy_failed"));
    assert_eq!(refusal(&app.command("f", "nonsense", json!({})).await), (422, "command_invalid"));
    assert_eq!(refusal(&app.command("f", "bump", json!({"by": "x"})).await), (422, "command_invalid"));
    assert_eq!(app.get("/function/f/changes").await.1["data"]["version"], 0);
}

/// A replica on which the command fails although the first succeeded is replaced by one with the change.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_follow_is_replaced() {
    let app = TestApp::start();
    let source = r#"
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters, self.wild = rule_id, settings, parameters, False

    def eval(self, parameters, input_data, context):
        if input_data == "go wild": self.wild = True
        return [parameters.get("n"), self.wild]

    def management(self, action, data):
        if self.wild: raise LookupError("not me")
        self.parameters.update(data)
"#;
    let uri = app.register_record(policy("wild", source)).await;
    app.deployed("local", "f", &uri, json!({"replicas": 2})).await;
    // Calls take turns, so that one of the two is reached.
    assert_eq!(app.called("f", json!("go wild")).await, json!([null, true]));
    let (status, told) = app.command("f", "set", json!({"n": 1})).await;
    if status == 502 {
        // The wild one was asked first: nothing has changed.
        assert_eq!(app.get("/function/f/changes").await.1["data"]["version"], 0);
        return;
    }
    assert_eq!(status, 200, "{told}");
    let failed: Vec<_> =
        told["replicas"].as_array().unwrap().iter().filter(|answer| answer["error"].is_object()).collect();
    assert_eq!((failed.len(), &failed[0]["error"]["code"]), (1, &json!("policy_failed")), "{told}");
    app.settled("f").await;
    for _ in 0..6 {
        assert_eq!(app.called("f", json!(0)).await, json!([1, false]), "the change, and no wild one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_commands_wait_for_an_executor_that_is_started_anew() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut executor = TestApp::executor("e1", &app).start();
        let uri = app.add("echo", "return input_data").await;
        app.deployed("e1", "f", &uri, json!({})).await;
        let fragile = fragile(&app).await;
        app.deployed("e1", "g", &fragile, json!({})).await;
        let calls = |number: u64| app.call("f", json!(number));
        assert_eq!(calls(0).await.0, 200);
        assert!(executor.stop(), "{}", executor.log());
        let restart = async { tokio::task::block_in_place(|| executor.restart()) };
        let replies = futures::future::join_all((1..9).map(calls));
        let (command, logs) = (app.command("g", "bump", json!({})), app.get("/function/g/logs"));
        let (replies, told, logs, ()) = tokio::join!(replies, command, logs, restart);
        assert_eq!((told.0, logs.0), (200, 200), "{} {}", told.1, logs.1);
        assert_eq!(app.get("/function/g/changes").await.1["data"]["version"], 1, "carried out once");
        for (number, (status, reply)) in (1..).zip(replies) {
            assert_eq!((status, &reply["data"]), (200, &json!(number)), "{reply}");
        }
        executor.kill();
        let restart = async { tokio::task::block_in_place(|| executor.restart()) };
        let (reply, ()) = tokio::join!(calls(9), restart);
        assert_eq!((reply.0, &reply.1["data"]), (200, &json!(9)), "{}", reply.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_is_502_until_it_is_back() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("executor_patience_seconds", 1).start();
        let mut executor = TestApp::executor("e1", &app).start();
        let uri = fragile(&app).await;
        app.deployed("e1", "f", &uri, json!({"replicas": 2})).await;
        app.command("f", "bump", json!({})).await;
        let before = app.called("f", json!("x")).await;
        let held = json!("hold");
        let caller = app.respond("/function/call_function/f", &held);
        let killer = async {
            let end = Instant::now() + PATIENCE;
            while executor.process_with_open_file("held").is_none() {
                assert!(Instant::now() < end, "the call does not begin");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            executor.kill();
        };
        let (reply, ()) = futures::future::join(caller, killer).await;
        assert_eq!(reply.status(), 502);
        for (method, path) in [("POST", "/function/call_function/f"), ("GET", "/function/f/logs")] {
            let reply = app.send(method, path, "1").await;
            assert_eq!(refusal(&reply), (502, "executor_unreachable"), "{}", reply.1);
        }
        assert!(executor.left_behind().is_empty(), "replicas end with their executor");
        tokio::task::block_in_place(|| executor.restart());
        let end = Instant::now() + PATIENCE;
        let after = loop {
            let (status, reply) = app.call("f", json!("x")).await;
            if status == 200 {
                break reply["data"].clone();
            }
            assert!(Instant::now() < end, "{reply}");
        };
        assert_ne!(after, before);
        let (_, changes) = app.get("/function/f/changes").await;
        assert_eq!(changes["data"]["parameters"], json!({"n": 1}));
        let (_, record) = app.get("/function/f").await;
        assert_eq!(record["data"]["function_executor_uri"], executor.url(), "its new address");
        let rename = json!({"$set": {"executor_id": "e2"}});
        assert_eq!(app.json("PUT", "/executor/e1", &rename).await.0, 200);
        assert_eq!(app.get("/function/f").await.1["data"]["function_executor_id"], "e2");
    }
}

/// Several servers on one database: one of them runs the functions of `local`, the others pass calls on, and one of those
/// takes over when it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn servers_side_by_side_share_functions() {
    let Some(database) = Database::postgres() else { return };
    let tokens = "admin:admin-token-1,operator:operator-token-1";
    let start = || TestApp::builder().database(database.clone()).env("EDICT_AUTH_TOKENS", tokens).start();
    let (mut first, second) = (start(), start());
    let client = |app: &TestApp, method: &str, path: &str, body: Value| {
        let request = app.request(method, path).bearer_auth("admin-token-1").body(body.to_string());
        async move {
            let reply = crate::support::reply(request).await;
            (reply.status, reply.json)
        }
    };
    let (_, made) = client(&second, "POST", "/policy", policy("fragile", FRAGILE)).await;
    let uri = made["data"]["policy_rule_uri"].clone();
    // Deployed through the one that does not run them.
    let deployment = json!({"name": "f", "policy_rule_uri": uri, "replicas": 2});
    let (_, made) = client(&second, "POST", "/function/deployments/create/local?wait=60s", deployment).await;
    assert_eq!(made["data"]["function_status"]["state"], "ready", "{made}");
    let mut seen = HashSet::new();
    for app in [&first, &second].into_iter().cycle().take(12) {
        let (status, reply) = client(app, "POST", "/function/call_function/f", json!("x")).await;
        assert_eq!(status, 200, "{reply}");
        seen.insert(reply["data"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 2, "the same two replicas behind both servers");
    let command = json!({"action": "bump"});
    for app in [&first, &second] {
        let (status, told) = client(app, "POST", "/function/management/f", command.clone()).await;
        assert_eq!((status, told["replicas"].as_array().map(Vec::len)), (200, Some(2)), "{told}");
    }
    assert_eq!(client(&second, "GET", "/function/f/logs", json!(0)).await.0, 200);
    // The one that runs them is killed.
    first.kill();
    let end = Instant::now() + PATIENCE;
    loop {
        let (status, reply) = client(&second, "POST", "/function/call_function/f", json!("x")).await;
        if status == 200 {
            assert!(!seen.contains(reply["data"].as_str().unwrap()), "the killed one ran them");
            break;
        }
        assert_eq!((status, &reply["error"]["code"]), (503, &json!("function_unavailable")), "{reply}");
        assert!(Instant::now() < end, "nobody takes over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, changes) = client(&second, "GET", "/function/f/changes", json!(0)).await;
    assert_eq!(changes["data"]["parameters"], json!({"n": 2}));
}

/// Commands, scaling and deaths at once: in the end every replica has every change, and none was replaced for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_lost_between_replicas_that_come_and_go() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let executor = TestApp::executor("e1", &app).start();
        let source = r#"
import os
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters

    def eval(self, parameters, input_data, context):
        if input_data == "die": os._exit(3)
        return sorted(parameters)

    def management(self, action, data):
        self.parameters[action] = 1
"#;
        let uri = app.register_record(policy("set", source)).await;
        for id in ["local", "e1"] {
            app.deployed(id, "f", &uri, json!({"replicas": 2})).await;
            let commands = async {
                for number in 0..20 {
                    let (status, told) = app.command("f", &format!("c{number:02}"), json!({})).await;
                    assert_eq!(status, 200, "{told}");
                }
            };
            let scaling = async {
                for replicas in [4, 1, 3, 2, 4] {
                    let change = json!({"replicas": replicas});
                    assert_eq!(app.change_function("f", &change).await.0, 200);
                }
            };
            let ((), ()) = futures::future::join(commands, scaling).await;
            // Deaths beside commands: a command whose first replica dies fails, and may be repeated.
            for number in 20..25 {
                let action = format!("c{number:02}");
                let (died, mut told) =
                    futures::future::join(app.call("f", json!("die")), app.command("f", &action, json!({})))
                        .await;
                assert_eq!(refusal(&died), (502, "policy_crashed"));
                while told.0 != 200 {
                    assert_eq!(told.0, 502, "{}", told.1);
                    told = app.command("f", &action, json!({})).await;
                }
            }
            let expected: Vec<String> = (0..25).map(|number| format!("c{number:02}")).collect();
            app.settled("f").await;
            for _ in 0..12 {
                assert_eq!(app.called("f", json!(0)).await, json!(expected));
            }
            app.send("DELETE", "/function/deployments/remove/f", "").await;
        }
        drop(executor);
    }
}
