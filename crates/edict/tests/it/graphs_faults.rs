//! Graphs that cannot run, and runs that fail.

use crate::graphs::{GRAPH, URI, graph};
use crate::support::{Database, PATIENCE, TestApp, http, refusal};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn graphs_that_cannot_run_are_refused_and_the_nodes_named() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        for name in ["a", "b", "c"] {
            app.deploy_node(name, "return input_data").await;
        }
        let cases = [
            (
                graph("g", &["a", "b", "c"], json!({"a": ["b"], "b": ["c"], "c": ["a"]})),
                "a -> b -> c -> a",
                vec!["a", "b", "c", "a"],
            ),
            (graph("g", &["a"], json!({"a": ["a"]})), "`a` gets its own output", vec!["a"]),
            (
                graph("g", &["a", "b"], json!({"a": ["nobody"]})),
                "`nobody` is in `graph_connection_data`",
                vec!["nobody"],
            ),
            (
                graph("g", &["a", "b"], json!({"nobody": ["a"]})),
                "`nobody` is in `graph_connection_data`",
                vec!["nobody"],
            ),
            (graph("g", &["a", "b", "a"], json!({})), "`a` is in `graph_function_ids` twice", vec!["a"]),
            (graph("g", &["a", "b"], json!({"a": ["b", "b"]})), "`a` feeds `b` twice", vec!["a", "b"]),
            (graph("g", &["a", "gone"], json!({"a": ["gone"]})), "there is no function `gone`", vec!["gone"]),
            (graph("g", &[], json!({})), "is empty", vec![]),
        ];
        for (record, message, nodes) in cases {
            for path in ["/graphs", "/graphs/check"] {
                let reply = app.json("POST", path, &record).await;
                assert_eq!(refusal(&reply), (422, "invalid_graph"), "{}", reply.1);
                assert!(reply.1["message"].as_str().unwrap().contains(message), "{message}: {}", reply.1);
                assert_eq!(reply.1["error"]["details"]["nodes"], json!(nodes));
            }
        }
        for (field, value, expected) in [
            ("graph_name", json!("a/b"), (400, "invalid_name")),
            ("graph_version", json!(1.0), (400, "invalid_field")),
            ("graph_function_ids", json!("a"), (400, "invalid_field")),
            ("graph_connection_data", json!({"a": "b"}), (400, "invalid_field")),
            ("graph_nodes", json!([]), (400, "unknown_field")),
            ("graph_metadata", json!({"x": "\0"}), (400, "invalid_field")),
            ("graph_output_schema", json!({"x": {"type": "nothing"}}), (422, "invalid_schema")),
        ] {
            let mut record = graph("g", &["a"], json!({}));
            record[field] = value;
            assert_eq!(refusal(&app.json("POST", "/graphs", &record).await), expected, "{field}");
        }
        assert_eq!(app.json("POST", "/graphs/query", &json!({})).await.1["data"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_outputs_are_checked() {
    let app = TestApp::start();
    app.deploy_diamond().await;
    app.send("POST", "/graphs", GRAPH).await;
    let reply = app.execute(URI, json!({"ip": "not an address"})).await;
    assert_eq!(refusal(&reply), (422, "input_invalid"));
    assert_eq!(reply.1["error"]["details"]["faults"][0]["pointer"], "/ip");
    let wrong = json!({"$set": {"graph_output_schema.decision.choices": ["block"]}});
    assert_eq!(app.json("PUT", &format!("/graphs/{URI}"), &wrong).await.0, 200);
    let reply = app.execute(URI, json!({"ip": "10.0.0.1"})).await;
    assert_eq!(refusal(&reply), (502, "graph_output_invalid"));
    let details = &reply.1["error"]["details"];
    assert_eq!(details["faults"][0]["pointer"], "/decision");
    let run = app.recorded(&details["run_id"]).await;
    assert_eq!(
        (&run["run_status"], &run["error"]["code"]),
        (&json!("failed"), &json!("graph_output_invalid"))
    );
    for body in
        ["", "{", "[]", r#"{"graph_uri": "x"}"#, r#"{"graph_uri": "x", "input_data": 1, "trace": true}"#]
    {
        assert_eq!(app.send("POST", "/graph/execute_graph", body).await.0, 400, "{body}");
    }
    let deep = format!(r#"{{"graph_uri": "{URI}", "input_data": {}{}}}"#, "[".repeat(200), "]".repeat(200));
    assert_eq!(refusal(&app.send("POST", "/graph/execute_graph", deep).await), (400, "invalid_field"));
    let timeouts = json!({"graph_uri": URI, "input_data": {}, "timeout": "soon"});
    assert_eq!(refusal(&app.json("POST", "/graph/execute_graph", &timeouts).await), (400, "invalid_field"));
    assert_eq!(
        refusal(&app.send("POST", "/graph/execute_graph?trace=1", "{}").await),
        (400, "invalid_parameter")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_node_fails_the_run_and_is_named() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        app.deploy_diamond().await;
        app.deploy_node("raises", "raise LookupError('asked to')").await;
        app.deploy_node("sleeps", "import time\ntime.sleep(15)").await;
        let edges = json!({"funcA": ["raises", "sleeps"], "raises": ["funcD"], "sleeps": ["funcD"]});
        let uri = app.graph("fails", &["funcA", "raises", "sleeps", "funcD"], edges).await;
        let started = Instant::now();
        let reply = app.execute(&uri, json!({})).await;
        assert!(started.elapsed() < Duration::from_secs(10), "it waited for a node that no longer matters");
        assert_eq!(refusal(&reply), (502, "node_failed"), "{}", reply.1);
        let details = &reply.1["error"]["details"];
        assert_eq!(details["node"], "raises");
        assert_eq!(details["error"]["code"], "policy_failed");
        assert!(details["error"]["message"].as_str().unwrap().contains("asked to"), "{details}");
        assert!(reply.1["message"].as_str().unwrap().contains("node `raises`"), "{}", reply.1);
        let run = app.recorded(&details["run_id"]).await;
        let statuses: Vec<&Value> =
            run["nodes"].as_array().unwrap().iter().map(|node| &node["status"]).collect();
        assert_eq!(statuses, ["completed", "failed", "cancelled", "skipped"]);
        assert_eq!((&run["run_status"], &run["error"]["code"]), (&json!("failed"), &json!("node_failed")));
        assert_eq!(run["nodes"][1]["error"]["code"], "policy_failed");
        // The function that was given up serves the next one: calls after this wait for no 15 seconds.
        let (_, found) = app.json("POST", "/graph/runs/query", &json!({"error.code": "node_failed"})).await;
        assert_eq!(found["data"][0]["run_id"], details["run_id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_was_removed_since_fails_the_run() {
    let app = TestApp::start();
    app.deploy_diamond().await;
    app.send("POST", "/graphs", GRAPH).await;
    app.output(URI, json!({"ip": "10.0.0.1"})).await;
    assert_eq!(app.send("DELETE", "/function/deployments/remove/funcC", "").await.0, 200);
    let reply = app.execute(URI, json!({"ip": "10.0.0.1"})).await;
    assert_eq!(refusal(&reply), (502, "node_failed"), "{}", reply.1);
    let details = &reply.1["error"]["details"];
    assert_eq!(
        (&details["node"], &details["error"]["code"]),
        (&json!("funcC"), &json!("function_not_found"))
    );
    // It may come back without the graph being touched.
    app.send("DELETE", "/policy/funcC:1.0-test", "").await;
    app.deploy_node("funcC", "return 'back'").await;
    app.output(URI, json!({"ip": "10.0.0.1"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_runs_out_for_a_node_or_for_the_run() {
    let app = TestApp::start();
    app.deploy_node("quick", "return input_data").await;
    app.deploy_node("slow", "import time\ntime.sleep(15)").await;
    let uri = app.graph("late", &["quick", "slow"], json!({"quick": ["slow"]})).await;
    let run = async |times: Value| {
        let mut request = json!({"graph_uri": uri, "input_data": 1});
        request.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        app.json("POST", "/graph/execute_graph", &request).await
    };
    let reply = run(json!({"node_timeout": "300ms"})).await;
    assert_eq!(refusal(&reply), (504, "node_timeout"), "{}", reply.1);
    let details = &reply.1["error"]["details"];
    assert_eq!(details["node"], "slow");
    let record = app.recorded(&details["run_id"]).await;
    assert_eq!(
        (&record["nodes"][1]["status"], &record["nodes"][1]["error"]["code"]),
        (&json!("failed"), &json!("node_timeout"))
    );
    let reply = run(json!({"timeout": 0.3})).await;
    assert_eq!(refusal(&reply), (504, "graph_timeout"), "{}", reply.1);
    let details = &reply.1["error"]["details"];
    assert_eq!(details["nodes"], json!(["slow"]));
    let record = app.recorded(&details["run_id"]).await;
    assert_eq!(
        (&record["nodes"][0]["status"], &record["nodes"][1]["status"]),
        (&json!("completed"), &json!("cancelled"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_caller_goes_away_is_cancelled_and_recorded() {
    let app = TestApp::start();
    app.deploy_node("slow", "import time\ntime.sleep(15)").await;
    let uri = app.graph("left", &["slow"], json!({})).await;
    let body = json!({"graph_uri": uri, "input_data": 1}).to_string();
    let gone = http()
        .post(format!("{}/graph/execute_graph", app.url()))
        .body(body)
        .timeout(Duration::from_millis(300));
    assert!(gone.send().await.is_err());
    let end = Instant::now() + PATIENCE;
    let run = loop {
        let (_, mut found) = app.json("POST", "/graph/runs/query", &json!({"graph_uri": uri})).await;
        if let Some(run) = found["data"].as_array_mut().unwrap().pop() {
            break run;
        }
        assert!(Instant::now() < end, "the run is not recorded");
    };
    assert_eq!((&run["run_status"], &run["nodes"][0]["status"]), (&json!("cancelled"), &json!("cancelled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_cannot_hold_is_left_out_of_the_record() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        app.deploy_node("nul", "return {'text': 'a\\0b'}").await;
        let uri = app.graph("odd", &["nul"], json!({})).await;
        let (status, reply) = app.execute(&uri, json!({"fine": 1})).await;
        assert_eq!(status, 200, "{reply}");
        let run = app.recorded(&reply["run_id"]).await;
        assert_eq!(run["run_status"], "completed", "{run}");
    }
}

/// An executor that answers every call itself: 500 functions without 500 processes. It adds one to numbers, and counts
/// anything else as 0; the answer waits until `together` calls are there.
async fn counting_executor(app: &TestApp, together: usize) -> tokio::task::JoinHandle<()> {
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(together));
    let answer = move |body: String| {
        let barrier = std::sync::Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            let number = serde_json::from_str::<Value>(&body).unwrap().as_i64().unwrap_or_default();
            json!({"success": true, "data": number + 1}).to_string()
        }
    };
    let router = axum::Router::new()
        .route("/function/call_function/{name}", axum::routing::post(answer))
        .fallback(|| async { "{}" });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let id = format!("counting-{together}");
    let executor =
        json!({"executor_id": id, "executor_host_uri": format!("http://{}", listener.local_addr().unwrap())});
    assert_eq!(app.json("POST", "/executor", &executor).await.0, 200);
    let path = format!("/function/deployments/create/{id}");
    let uri = app.add(&format!("p{together}"), "return 0").await;
    for number in 0..500 {
        let function = json!({"name": format!("{id}-{number}"), "policy_rule_uri": uri});
        let (status, reply) = app.json("POST", &path, &function).await;
        assert_eq!(status, 200, "{reply}");
    }
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_in_a_chain_and_five_hundred_side_by_side() {
    let app = TestApp::start();
    for (together, chained) in [(1, true), (500, false)] {
        let server = counting_executor(&app, together).await;
        let names: Vec<String> = (0..500).map(|number| format!("counting-{together}-{number}")).collect();
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        let edges: serde_json::Map<String, Value> = match chained {
            true => ids.windows(2).map(|pair| (pair[0].to_owned(), json!([pair[1]]))).collect(),
            false => serde_json::Map::new(),
        };
        let uri = app.graph(&format!("g{together}"), &ids, Value::Object(edges)).await;
        let output = app.output(&uri, json!(0)).await;
        if chained {
            assert_eq!(output, 500);
        } else {
            // Nobody answers before all 500 are there: they do run at the same time.
            let output = output.as_object().unwrap();
            assert!(output.len() == 500 && output.values().all(|value| value == 1));
        }
        server.abort();
    }
}
