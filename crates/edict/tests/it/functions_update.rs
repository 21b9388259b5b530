//! Changing functions while they are called.

use crate::support::{Database, Load, TestApp, free_port, policy, policy_source, refusal};
use serde_json::{Value, json};
use std::collections::HashSet;

/// A policy whose calls take a moment and answer its version and its parameters.
fn version(number: u32) -> Value {
    let source = policy_source(&format!("import time\ntime.sleep(0.005)\nreturn [{number}, parameters]"));
    let mut record = policy("p", &source);
    record["version"] = number.to_string().into();
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_to_another_version_fails_no_call() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let _executor = TestApp::executor("e1", &app).start();
        let (old, new) = (app.register_record(version(1)).await, app.register_record(version(2)).await);
        for executor in ["local", "e1"] {
            app.deployed(executor, "f", &old, json!({"replicas": 3})).await;
            let load = Load::start(&app, "f", &json!(0), 6);
            let mut revision = 1;
            for (uri, answer) in [(&new, 2), (&old, 1), (&new, 2)] {
                revision += 1;
                let (status, updated) = app.change_function("f", &json!({"policy_rule_uri": uri})).await;
                let told = &updated["data"]["function_status"];
                assert_eq!((status, &told["state"]), (200, &json!("ready")), "{updated}");
                assert_eq!((&told["revision"], &told["ready"]), (&json!(revision), &json!(3)), "{told}");
                assert_eq!(app.called("f", json!(0)).await[0], answer);
            }
            let scaled = app.change_function("f", &json!({"replicas": 1})).await.1;
            assert_eq!(scaled["data"]["function_status"]["ready"], 1, "{scaled}");
            let replies = load.stop().await;
            let failed: Vec<_> = replies.iter().filter(|(status, _)| *status != 200).collect();
            assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), replies.len(), failed[0]);
            let versions: HashSet<u64> =
                replies.iter().map(|(_, reply)| reply["data"][0].as_u64().unwrap()).collect();
            assert_eq!(versions, HashSet::from([1, 2]), "it was called throughout");
            assert_eq!(app.settled("f").await["restarts"], 0);
            app.send("DELETE", "/function/deployments/remove/f", "").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_start_leaves_the_old_one_serving() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let old = app.register_record(version(1)).await;
        let mut broken = version(2);
        broken["code"] = format!("raise ImportError('half done')\n{}", policy_source("return 0")).into();
        let broken = app.register_record(broken).await;
        app.deployed("local", "f", &old, json!({"replicas": 2})).await;
        let load = Load::start(&app, "f", &json!(0), 4);
        let (status, updated) = app.change_function("f", &json!({"policy_rule_uri": broken})).await;
        let told = &updated["data"]["function_status"];
        assert_eq!(
            (status, &told["state"], &told["ready"]),
            (200, &json!("degraded"), &json!(2)),
            "{updated}"
        );
        assert_eq!((&told["revision"], &told["observed_revision"]), (&json!(1), &json!(2)), "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains("half done"), "{told}");
        assert_eq!(app.called("f", json!(0)).await[0], 1);
        // Back to what was good.
        let (_, updated) = app.change_function("f", &json!({"policy_rule_uri": old})).await;
        assert_eq!(updated["data"]["function_status"]["state"], "ready", "{updated}");
        let replies = load.stop().await;
        assert!(replies.iter().all(|(status, _)| *status == 200), "no call failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_of_an_update_finishes_it_afterwards() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).setting("system_port", free_port()).start();
        let (old, new) = (app.register_record(version(1)).await, app.register_record(version(2)).await);
        app.deployed("local", "f", &old, json!({"replicas": 4})).await;
        app.command("f", "nothing", json!({})).await;
        let reply = app.json("PUT", "/function/deployments/f", &json!({"policy_rule_uri": new})).await;
        assert_eq!(reply.0, 200, "{}", reply.1);
        app.kill();
        assert!(app.left_behind().is_empty(), "replicas end with their server");
        tokio::task::block_in_place(|| app.restart());
        let told = app.status_when("f", |status| status["state"] == "ready" && status["revision"] == 2).await;
        assert_eq!((&told["ready"], &told["error"]), (&json!(4), &Value::Null), "{told}");
        for _ in 0..8 {
            assert_eq!(app.called("f", json!(0)).await[0], 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_take_parts_of_a_deployment_or_operators() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let uri = app.register_record(version(1)).await;
        let parameters = json!({"policy_rule_parameters": {"a": 1, "b": 1}});
        app.deployed("local", "f", &uri, parameters).await;
        let change = async |change: Value| app.change_function("f", &change).await;
        let (status, updated) =
            change(json!({"$set": {"policy_rule_parameters.b": 2, "function_tags": ["x"]}})).await;
        assert_eq!((status, &updated["data"]["revision"]), (200, &json!(2)), "{updated}");
        assert_eq!(app.called("f", json!(0)).await[1], json!({"a": 1, "b": 2}));
        let (_, updated) = change(json!({"function_metadata": {"m": 1}, "replicas": 2})).await;
        let record = &updated["data"];
        assert_eq!((&record["function_tags"], &record["replicas"]), (&json!(["x"]), &json!(2)), "{record}");
        assert_eq!(record["function_status"]["ready"], 2);
        let rule = json!({"min_replicas": 1, "max_replicas": 2});
        assert_eq!(change(json!({"autoscaling": rule})).await.1["data"]["autoscaling"]["max_replicas"], 2);
        assert_eq!(change(json!({"autoscaling": null})).await.1["data"]["autoscaling"], Value::Null);
        let (_, read) = app.get("/function/f").await;
        let revision = read["data"]["revision"].as_u64().unwrap();
        for (body, expected) in [
            (json!({"name": "g"}), (400, "invalid_field")),
            (json!({"alloc": {}}), (400, "invalid_field")),
            (json!({"replicas": 1, "$set": {"replicas": 2}}), (400, "invalid_update")),
            (json!({"$set": {"function_executor_id": "x"}}), (400, "invalid_update")),
            (json!({"$set": {"function_status.state": "ready"}}), (400, "invalid_update")),
            (json!({"$set": {"replica": 2}}), (400, "unknown_field")),
            (json!({"$set": {"replicas": 0}}), (400, "invalid_field")),
            (json!({"policy_rule_uri": "no:1-such"}), (404, "policy_not_found")),
            (json!({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}), (422, "invalid_autoscaling")),
            (json!({"replicas": 1000}), (422, "no_executor_fits")),
            (json!([]), (400, "invalid_update")),
        ] {
            assert_eq!(refusal(&change(body.clone()).await), expected, "{body}");
        }
        let stale =
            app.request("PUT", "/function/deployments/f").header("if-match", "1").body("{\"replicas\": 1}");
        assert_eq!(crate::support::reply(stale).await.status, 412);
        assert_eq!(app.get("/function/f").await.1["data"]["revision"], revision, "nothing was changed");
    }
}

/// A change of what is not the replicas' business leaves them alone.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_replicas_are_made_from_replaces_them() {
    let app = TestApp::start();
    let source = policy_source("self.n = getattr(self, 'n', 0) + 1\nreturn self.n");
    let uri = app.register_record(policy("counting", &source)).await;
    app.deployed("local", "f", &uri, json!({})).await;
    assert_eq!(app.called("f", json!(0)).await, 1);
    for change in [
        json!({"function_tags": ["x"]}),
        json!({"policy_rule_uri": uri}),
        json!({"policy_rule_parameters": {}}),
    ] {
        let (_, updated) = app.change_function("f", &change).await;
        let record = &updated["data"];
        assert_eq!(record["function_status"]["revision"], record["revision"], "{record}");
    }
    assert_eq!(app.called("f", json!(0)).await, 2, "the same instance");
    app.change_function("f", &json!({"policy_rule_parameters": {"a": 1}})).await;
    assert_eq!(app.called("f", json!(0)).await, 1, "another one");
}
