//! Choosing executors: labels of nodes, the allocator that ships, and those that do not.

use crate::support::{Database, TestApp, policy, policy_source, refusal};
use serde_json::{Value, json};

const DEFAULT: &str = "default_allocator:1.0-stable";

fn candidate(id: &str, load: Value, reason: Value) -> Value {
    json!({
        "executor_id": id, "executor_status": "healthy", "executor_metadata": {},
        "executor_hardware_info": {"vcpus": {"count": 2}, "memory": 1000},
        "load": {"jobs": load, "replicas": 0}, "fits": reason.is_null(), "reason": reason,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_allocator_is_there_and_what_users_make_of_it_stays() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        let input = json!({"kind": "job", "request": {}, "executors": [
            candidate("a", json!(1), Value::Null),
            candidate("b", json!(0), Value::Null),
            candidate("c", json!(0), json!("no label")),
        ]});
        let answer = app.result(DEFAULT, input.clone()).await;
        assert_eq!(answer["executor_id"], "b");
        assert_eq!(answer["passed_over"][1], json!({"executor_id": "c", "reason": "no label"}));
        let change = json!({"$set": {"description": "ours"}});
        assert_eq!(app.json("PUT", &format!("/policy/{DEFAULT}"), &change).await.0, 200);
        assert!(app.stop());
        app.restart();
        let (_, kept) = app.get(&format!("/policy/{DEFAULT}")).await;
        assert_eq!((&kept["data"]["description"], &kept["data"]["revision"]), (&json!("ours"), &json!(2)));
        // Once removed it comes back with the next start: there is always an allocator.
        assert_eq!(app.send("DELETE", &format!("/policy/{DEFAULT}"), "").await.0, 200);
        assert!(app.stop());
        app.restart();
        assert_eq!(app.result(DEFAULT, input).await["executor_id"], "b");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_the_labels_of_the_settings() {
    let app = TestApp::builder().setting("node_labels", "zone=a, gpu = yes").start();
    let _edge = TestApp::executor("edge", &app).setting("node_labels", "zone=b").start();
    let mut found = Vec::new();
    for id in ["local", "edge"] {
        let (_, reply) = app.get(&format!("/executor/{id}")).await;
        found.push(reply["data"]["executor_hardware_info"]["nodes"]["nodeData"][0]["labels"].clone());
    }
    assert_eq!(found, [json!({"zone": "a", "gpu": "yes"}), json!({"zone": "b"})]);
}

/// Submits a job without naming an executor; returns status and reply.
async fn place(app: &TestApp, policy: &str, more: Value) -> (u16, Value) {
    let mut request = json!({"policy_rule_uri": policy, "inputs": {"x": 1}});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.json("POST", "/jobs/submit/", &request).await
}

/// Registers an allocator whose `eval` has this body.
async fn allocator(app: &TestApp, name: &str, body: &str) -> String {
    let mut record = policy(name, &policy_source(body));
    record["execution_limits"] = json!({"isolation": "instance", "timeout_ms": 2000});
    app.register_record(record).await
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_choose_among_executors_for_jobs_and_functions() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("node_labels", "zone=a").start();
        let _one = TestApp::executor("one", &app).setting("node_labels", "zone=b,gpu=yes").start();
        let _two = TestApp::executor("two", &app).setting("node_labels", "zone=c").start();
        let uri = app.add("p", "return input_data").await;
        for (selector, chosen) in [
            (json!({"zone": "a"}), "local"),
            (json!({"zone": "b"}), "one"),
            (json!({"zone": "b", "gpu": "yes"}), "one"),
            (json!({"zone": "c"}), "two"),
        ] {
            let (status, reply) = place(&app, &uri, json!({"node_selector": selector})).await;
            assert_eq!((status, &reply["data"]["executor_id"]), (201, &json!(chosen)), "{reply}");
        }
        // A label given to an executor by its operator counts as one of its nodes'.
        let label = json!({"$set": {"metadata.node_labels": {"tier": "gold"}}});
        assert_eq!(app.json("PUT", "/executor/two", &label).await.0, 200);
        let (_, reply) = place(&app, &uri, json!({"node_selector": {"tier": "gold", "zone": "c"}})).await;
        assert_eq!(reply["data"]["executor_id"], "two", "{reply}");
        let function = json!({"name": "f", "policy_rule_uri": uri, "node_selector": {"gpu": "yes"}});
        let (status, reply) = app.json("POST", "/function/deployments/create/", &function).await;
        assert_eq!((status, &reply["data"]["function_executor_id"]), (200, &json!("one")), "{reply}");

        let reply = place(&app, &uri, json!({"node_selector": {"zone": "moon"}})).await;
        assert_eq!(refusal(&reply), (422, "no_executor_fits"));
        let reasons = reply.1["error"]["details"]["executors"].as_array().unwrap();
        let ids: Vec<&str> = reasons.iter().map(|one| one["executor_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["local", "one", "two"]);
        for one in reasons {
            assert!(one["reason"].as_str().unwrap().contains("`zone=moon`"), "{one}");
            assert!(reply.1["message"].as_str().unwrap().contains(one["executor_id"].as_str().unwrap()));
        }
        // An executor that is named is held to the labels, too.
        let named = json!({"policy_rule_uri": uri, "inputs": 1, "node_selector": {"zone": "b"}});
        assert_eq!(refusal(&app.json("POST", "/jobs/submit/two", &named).await), (422, "no_executor_fits"));
        assert_eq!(
            refusal(&app.json("POST", "/jobs/submit/nobody", &named).await),
            (404, "executor_not_found")
        );
        assert_eq!(app.json("POST", "/jobs/submit/one", &named).await.0, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_placed_a_moment_ago_counts() {
    let app = TestApp::start();
    let _one = TestApp::executor("one", &app).start();
    let uri = app.add("p", "import time\ntime.sleep(input_data)").await;
    let mut chosen = Vec::new();
    for _ in 0..4 {
        let (_, reply) = place(&app, &uri, json!({"inputs": 20})).await;
        chosen.push(reply["data"]["executor_id"].as_str().unwrap().to_owned());
        assert_eq!(reply["success"], true, "{reply}");
    }
    chosen.sort();
    assert_eq!(chosen, ["local", "local", "one", "one"], "they are spread");
    let (_, jobs) = app.json("POST", "/jobs/query", &json!({})).await;
    for job in jobs["data"].as_array().unwrap() {
        app.send("DELETE", &format!("/jobs/{}", job["job_id"].as_str().unwrap()), "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_allocator_decides_by_its_own_rule() {
    let app = TestApp::start();
    let _one = TestApp::executor("one", &app).start();
    let uri = app.add("p", "return input_data").await;
    let body = "seen = input_data\nassert 'inputs' not in seen['request'] and seen['request']['policy_rule_uri']\n\
                assert [e['executor_id'] for e in seen['executors']] == ['local', 'one']\n\
                return {'executor_id': parameters['to'], 'replicas': self.settings.get('replicas')}";
    let own = allocator(&app, "own", body).await;
    for to in ["one", "local"] {
        let alloc = json!({"resource_allocator_policy_uri": own, "parameters": {"to": to}});
        let (status, reply) = place(&app, &uri, json!({"alloc": alloc})).await;
        assert_eq!((status, &reply["data"]["executor_id"]), (201, &json!(to)), "{reply}");
    }
    let alloc = json!({"resource_allocator_policy_uri": own, "parameters": {"to": "local"}, "settings": {"replicas": 2}});
    let deploy = async |name: &str, more: Value| {
        let mut function = json!({"name": name, "policy_rule_uri": uri, "alloc": alloc});
        function.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.json("POST", "/function/deployments/create/", &function).await.1["data"]["replicas"].clone()
    };
    assert_eq!(deploy("theirs", json!({})).await, 2, "the allocator says so");
    assert_eq!(deploy("ours", json!({"replicas": 1})).await, 1, "the request says so");

    // As the default of a server.
    let other = TestApp::builder().setting("default_allocator", "mine:1.0-test").start();
    let uri = other.add("p", "return input_data").await;
    let reply = place(&other, &uri, json!({})).await;
    assert_eq!(refusal(&reply), (404, "policy_not_found"), "it is not registered yet: {}", reply.1);
    allocator(
        &other,
        "mine",
        "return {'executor_id': None, 'passed_over': [{'executor_id': 'local', 'reason': 'closed today'}]}",
    )
    .await;
    let reply = place(&other, &uri, json!({})).await;
    assert_eq!(refusal(&reply), (422, "no_executor_fits"));
    let details = &reply.1["error"]["details"];
    assert_eq!(details["executors"], json!([{"executor_id": "local", "reason": "closed today"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn allocators_that_fail_or_talk_nonsense_are_found_out() {
    let app = TestApp::start();
    let uri = app.add("p", "return input_data").await;
    for (name, body, told) in [
        ("raises", "raise LookupError('asked to')", "asked to"),
        ("hangs", "import time\ntime.sleep(60)", "wall time"),
        ("nobody", "return {'executor_id': 'nobody'}", "`nobody`, which isn't there"),
        ("silent", "return {}", "missing field `executor_id`"),
        ("text", "return 'local'", "something else than"),
        ("number", "return {'executor_id': 7}", "something else than"),
        ("none", "return {'executor_id': 'local', 'replicas': 0}", "`0` replicas"),
        ("half", "return {'executor_id': 'local', 'replicas': 1.5}", "something else than"),
        ("less", "return {'executor_id': 'local', 'replicas': -1}", "something else than"),
    ] {
        let own = allocator(&app, name, body).await;
        let reply = place(&app, &uri, json!({"alloc": {"resource_allocator_policy_uri": own}})).await;
        assert_eq!(refusal(&reply), (502, "allocator_failed"), "{name}: {}", reply.1);
        let message = reply.1["message"].as_str().unwrap();
        assert!(message.contains(&own) && message.contains(told), "{name}: {message}");
    }
    // It chooses what lacks the labels.
    let own = allocator(&app, "blind", "return {'executor_id': 'local'}").await;
    let more = json!({"alloc": {"resource_allocator_policy_uri": own}, "node_selector": {"zone": "x"}});
    let reply = place(&app, &uri, more).await;
    assert_eq!(refusal(&reply), (502, "allocator_failed"));
    let unknown = json!({"alloc": {"resource_allocator_policy_uri": "none:1-x"}});
    assert_eq!(refusal(&place(&app, &uri, unknown).await), (404, "policy_not_found"));
    let unknown = json!({"alloc": {"policy": "none:1-x"}});
    assert_eq!(refusal(&place(&app, &uri, unknown).await), (400, "unknown_field"));
    let (_, jobs) = app.json("POST", "/jobs/query", &json!({})).await;
    assert_eq!(jobs["data"], json!([]), "nothing was accepted");
}
