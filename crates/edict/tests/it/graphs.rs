//! Graphs of functions: their records, and running them.

use crate::support::{Database, TestApp, policy, policy_source, refusal, reply};
use serde_json::{Value, json};

/// The sample payload of the specification, as it stands.
pub(crate) const GRAPH: &str = include_str!("spec/graph.json");
pub(crate) const URI: &str = "ip_risk_analysis:1.0-stable";

impl TestApp {
    /// Registers a policy whose `eval` has this body and deploys it as a function of the same name, ready to be called.
    pub(crate) async fn deploy_node(&self, name: &str, body: &str) {
        let mut record = policy(name, &policy_source(body));
        record["execution_limits"] = json!({"timeout_ms": 20_000});
        let uri = self.register_record(record).await;
        let request = json!({"name": name, "policy_rule_uri": uri});
        let path = "/function/deployments/create/local?wait=30s";
        let (status, reply) = self.json("POST", path, &request).await;
        assert_eq!((status, &reply["data"]["function_status"]["state"]), (200, &json!("ready")), "{reply}");
    }

    /// Deploys funcA to funcD so that a run tells its way: each returns its name and what it got; the last decides.
    pub(crate) async fn deploy_diamond(&self) {
        for name in ["funcA", "funcB", "funcC"] {
            self.deploy_node(name, &format!("return {{'{name}': input_data}}")).await;
        }
        self.deploy_node("funcD", "return {'decision': 'allow', 'reason': str(input_data)}").await;
    }

    /// Registers a graph of these nodes and edges; returns its URI.
    pub(crate) async fn graph(&self, name: &str, ids: &[&str], edges: Value) -> String {
        let (status, reply) = self.json("POST", "/graphs", &graph(name, ids, edges)).await;
        assert_eq!(status, 200, "{reply}");
        reply["data"]["graph_uri"].as_str().unwrap().to_owned()
    }

    /// Runs a graph.
    pub(crate) async fn execute(&self, uri: &str, input: Value) -> (u16, Value) {
        let request = json!({"graph_uri": uri, "input_data": input});
        self.json("POST", "/graph/execute_graph", &request).await
    }

    /// Runs a graph that must succeed; returns its output.
    pub(crate) async fn output(&self, uri: &str, input: Value) -> Value {
        let (status, mut reply) = self.execute(uri, input).await;
        assert_eq!(status, 200, "{reply}");
        reply["data"].take()
    }

    /// A recorded run.
    pub(crate) async fn recorded(&self, id: &Value) -> Value {
        let (status, mut reply) = self.get(&format!("/graph/runs/{}", id.as_str().unwrap())).await;
        assert_eq!(status, 200, "{reply}");
        reply["data"].take()
    }
}

/// A graph's record.
pub(crate) fn graph(name: &str, ids: &[&str], edges: Value) -> Value {
    json!({
        "graph_name": name, "graph_version": "1.0", "graph_release_tag": "test",
        "graph_function_ids": ids, "graph_connection_data": edges,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_specification_works_as_it_stands() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        app.deploy_diamond().await;
        let sent: Value = serde_json::from_str(GRAPH).unwrap();
        let (status, created) = app.send("POST", "/graphs", GRAPH).await;
        assert_eq!(status, 200, "{created}");
        for (field, value) in sent.as_object().unwrap() {
            assert_eq!(&created["data"][field], value, "{field}");
        }
        assert_eq!((&created["data"]["graph_uri"], &created["data"]["revision"]), (&json!(URI), &json!(1)));
        assert_eq!(app.get(&format!("/graphs/{URI}")).await, (200, created.clone()));

        let run = r#"{"graph_uri": "ip_risk_analysis:1.0-stable", "input_data": {"ip": "192.168.1.1"}}"#;
        let (status, reply) = app.send("POST", "/graph/execute_graph", run).await;
        let way =
            "[{'funcB': {'funcA': {'ip': '192.168.1.1'}}}, {'funcC': {'funcA': {'ip': '192.168.1.1'}}}]";
        assert_eq!((status, &reply["data"]), (200, &json!({"decision": "allow", "reason": way})), "{reply}");
        assert_eq!(reply.as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "run_id", "success"]);

        let query = json!({"graph_search_tags": {"$in": ["security"]}, "graph_version": "1.0"});
        assert_eq!(app.json("POST", "/graphs/query", &query).await.1["data"], json!([]));
        let query = json!({"graph_search_tags": {"$in": ["threat"]}, "graph_metadata.country": "US"});
        assert_eq!(app.json("POST", "/graphs/query", &query).await.1["data"], json!([created["data"]]));

        let change = json!({"$set": {
            "graph_version": "2.0", "graph_search_tags": ["ip", "network-analysis", "ip-access-check"]
        }});
        let (status, moved) = app.json("PUT", &format!("/graphs/{URI}"), &change).await;
        assert_eq!((status, &moved["moved_to"]), (200, &json!("ip_risk_analysis:2.0-stable")), "{moved}");
        assert_eq!(moved["data"]["revision"], 2);
        assert_eq!(refusal(&app.execute(URI, json!({"ip": "1.1.1.1"})).await), (404, "graph_not_found"));
        app.output("ip_risk_analysis:2.0-stable", json!({"ip": "1.1.1.1"})).await;
        let (status, gone) = app.send("DELETE", "/graphs/ip_risk_analysis:2.0-stable", "").await;
        assert_eq!((status, &gone["data"]), (200, &moved["data"]));
        let gone = app.execute("ip_risk_analysis:2.0-stable", json!({"ip": "1.1.1.1"})).await;
        assert_eq!(refusal(&gone), (404, "graph_not_found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_locked_moved_and_never_overwritten() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        app.deploy_node("a", "return 1").await;
        let uri = app.graph("one", &["a"], json!({})).await;
        app.graph("two", &["a"], json!({})).await;
        assert_eq!(
            refusal(&app.json("POST", "/graphs", &graph("one", &["a"], json!({}))).await),
            (409, "graph_exists")
        );
        let onto = json!({"$set": {"graph_name": "two"}});
        assert_eq!(refusal(&app.json("PUT", &format!("/graphs/{uri}"), &onto).await), (409, "graph_exists"));
        let path = format!("/graphs/{uri}");
        let change = json!({"$set": {"graph_description": "x"}}).to_string();
        let put = |revision: &str| {
            app.request("PUT", &path).header("if-match", revision.to_owned()).body(change.clone())
        };
        assert_eq!(reply(put("7")).await.status, 412);
        let changed = reply(put("1")).await;
        assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""));
        assert_eq!(reply(app.request("DELETE", &path).header("if-match", "1")).await.status, 412);
        // A full record replaces the old one.
        let (_, replaced) = app.json("PUT", &path, &graph("one", &["a"], json!({}))).await;
        assert_eq!(
            (&replaced["data"]["graph_description"], &replaced["data"]["revision"]),
            (&json!(""), &json!(3))
        );
        for (change, code) in [
            (json!({"$set": {"revision": 9}}), (400, "invalid_update")),
            (json!({"$set": {"graph_function_ids": ["a", "b"]}}), (422, "invalid_graph")),
            (json!({"$set": {"graph_connection_data": {"a": ["a"]}}}), (422, "invalid_graph")),
            (json!({"$set": {"graph_input_schema": {"x": 1}}}), (422, "invalid_schema")),
            (json!({"$set": {"graph_nam": "x"}}), (400, "unknown_field")),
            (json!({"$set": {"graph_metadata": 7}}), (400, "invalid_field")),
        ] {
            assert_eq!(refusal(&app.json("PUT", &path, &change).await), code, "{change}");
        }
        assert_eq!(app.get(&path).await.1["data"], replaced["data"]);
        assert_eq!(refusal(&app.get("/graphs/none:1-x").await), (404, "graph_not_found"));
        assert_eq!(refusal(&app.send("DELETE", "/graphs/none:1-x", "").await), (404, "graph_not_found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_is_told_and_nothing_is_stored() {
    let app = TestApp::start();
    app.deploy_diamond().await;
    let (status, plan) = app.send("POST", "/graphs/check", GRAPH).await;
    assert_eq!(
        (status, &plan["data"]),
        (
            200,
            &json!({
                "graph_uri": URI, "exists": false, "roots": ["funcA"], "leaves": ["funcD"],
                "stages": [["funcA"], ["funcB", "funcC"], ["funcD"]],
            })
        )
    );
    assert_eq!(app.json("POST", "/graphs/query", &json!({})).await.1["data"], json!([]));
    app.send("POST", "/graphs", GRAPH).await;
    assert_eq!(app.send("POST", "/graphs/check", GRAPH).await.1["data"]["exists"], true);
    let wrong = graph("x", &["funcA", "nobody"], json!({}));
    assert_eq!(refusal(&app.json("POST", "/graphs/check", &wrong).await), (422, "invalid_graph"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_roots_and_leaves_and_a_node_alone() {
    let app = TestApp::start();
    for name in ["r1", "r2", "mid", "l1", "l2", "lone"] {
        app.deploy_node(name, &format!("return ['{name}', input_data]")).await;
    }
    // The order of a node's inputs is that of the list, whatever the edges say.
    let ids = ["r2", "r1", "mid", "l2", "l1", "lone"];
    let edges = json!({"r1": ["mid"], "r2": ["mid"], "mid": ["l1", "l2"]});
    let uri = app.graph("ends", &ids, edges).await;
    let mid = json!(["mid", [["r2", 7], ["r1", 7]]]);
    let expected = json!({"l1": ["l1", mid], "l2": ["l2", mid], "lone": ["lone", 7]});
    assert_eq!(app.output(&uri, json!(7)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_keep_every_digit_on_their_way() {
    let app = TestApp::start();
    for name in ["a", "b"] {
        app.deploy_node(name, "return input_data").await;
    }
    let uri = app.graph("digits", &["a", "b"], json!({"a": ["b"]})).await;
    let run = format!(
        r#"{{"graph_uri": "{uri}", "input_data": {{"n": 123456789012345678901234567890, "f": 0.1}}}}"#
    );
    let reply = reply(app.request("POST", "/graph/execute_graph").body(run)).await;
    let text = String::from_utf8(reply.bytes).unwrap();
    assert!(
        text.contains(r#""n": 123456789012345678901234567890"#)
            || text.contains(r#""n":123456789012345678901234567890"#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_tells_what_each_node_did_and_runs_are_recorded() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        app.deploy_diamond().await;
        app.send("POST", "/graphs", GRAPH).await;
        let request = json!({"graph_uri": URI, "input_data": {"ip": "10.0.0.1"}});
        let (_, traced) = app.json("POST", "/graph/execute_graph?trace=true", &request).await;
        let trace = &traced["trace"];
        assert_eq!(
            (&trace["run_id"], &trace["run_status"]),
            (&traced["run_id"], &json!("completed")),
            "{traced}"
        );
        let names: Vec<&Value> =
            trace["nodes"].as_array().unwrap().iter().map(|node| &node["node"]).collect();
        assert_eq!(names, ["funcA", "funcB", "funcC", "funcD"]);
        assert_eq!(trace["nodes"][1]["input"], json!({"funcA": {"ip": "10.0.0.1"}}));
        assert_eq!(trace["nodes"][3]["output"], traced["data"]);
        let end = |node: usize| {
            let node = &trace["nodes"][node];
            node["started_ms"].as_f64().unwrap() + node["duration_ms"].as_f64().unwrap()
        };
        for node in [1, 2] {
            assert!(trace["nodes"][node]["started_ms"].as_f64().unwrap() >= end(0), "{trace}");
        }
        assert!(trace["duration_ms"].as_f64().unwrap() >= end(3));
        assert_eq!(&app.recorded(&traced["run_id"]).await, trace);

        // Without a trace, what nodes got and gave is not kept.
        let (_, plain) = app.execute(URI, json!({"ip": "10.0.0.2"})).await;
        let record = app.recorded(&plain["run_id"]).await;
        assert_eq!((&record["input_data"], &record["output"]), (&json!({"ip": "10.0.0.2"}), &plain["data"]));
        assert_eq!((&record["graph_revision"], &record["nodes"][1]["input"]), (&json!(1), &Value::Null));
        assert!(
            plain["run_id"].as_str().unwrap() > traced["run_id"].as_str().unwrap(),
            "in the order of time"
        );

        let query = json!({"graph_uri": URI, "run_status": "completed", "input_data.ip": "10.0.0.2"});
        let (_, found) = app.json("POST", "/graph/runs/query?fields=run_id", &query).await;
        assert_eq!(found["data"], json!([{"run_id": plain["run_id"]}]));
        let (_, found) = app.json("POST", "/graph/runs/query?sort=-started_at&limit=1", &json!({})).await;
        assert_eq!((&found["data"][0]["run_id"], &found["has_more"]), (&plain["run_id"], &json!(true)));
        assert_eq!(refusal(&app.get("/graph/runs/nothing").await), (404, "run_not_found"));

        // Both are there after a stop, as is one that ended just before it; runs outlive their graph.
        let (_, last) = app.execute(URI, json!({"ip": "10.0.0.3"})).await;
        assert!(tokio::task::block_in_place(|| app.stop()));
        tokio::task::block_in_place(|| app.restart());
        app.send("DELETE", &format!("/graphs/{URI}"), "").await;
        assert_eq!(app.recorded(&last["run_id"]).await["input_data"], json!({"ip": "10.0.0.3"}));
        assert_eq!(&app.recorded(&traced["run_id"]).await, trace);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_graph_runs_as_it_is_now_on_every_server() {
    let Some(database) = Database::postgres() else { return };
    let one = TestApp::builder().database(database.clone()).start();
    for name in ["a", "b"] {
        one.deploy_node(name, &format!("return '{name}'")).await;
    }
    let uri = one.graph("g", &["a"], json!({})).await;
    let two = TestApp::builder().database(database).start();
    for app in [&one, &two] {
        assert_eq!(app.output(&uri, json!(0)).await, "a");
    }
    let change = json!({"$set": {"graph_function_ids": ["b"]}});
    assert_eq!(one.json("PUT", &format!("/graphs/{uri}"), &change).await.0, 200);
    assert_eq!(one.output(&uri, json!(0)).await, "b");
    let end = std::time::Instant::now() + crate::support::PATIENCE;
    while two.output(&uri, json!(0)).await != "b" {
        assert!(std::time::Instant::now() < end, "the other server has not heard of it");
    }
    one.send("DELETE", &format!("/graphs/{uri}"), "").await;
    while two.execute(&uri, json!(0)).await.0 != 404 {
        assert!(std::time::Instant::now() < end, "the other server has not heard of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_are_removed() {
    // Makes the first run three days old.
    const SQLITE: &str = "UPDATE graph_runs SET doc = json_set(doc, '$.started_at', strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '-3 days')) \
                          WHERE key = (SELECT min(key) FROM graph_runs) RETURNING revision";
    const POSTGRES: &str = "UPDATE graph_runs SET doc = jsonb_set(doc, '{started_at}', \
                            to_jsonb(to_char(now() - interval '3 days', 'YYYY-MM-DD\"T\"HH24:MI:SS.000000Z'))) \
                            WHERE key = (SELECT min(key) FROM graph_runs) RETURNING revision";
    for database in Database::each() {
        let age = if database.url().is_some() { POSTGRES } else { SQLITE };
        let mut app = TestApp::builder().database(database).setting("graph_run_retention_days", 2).start();
        app.deploy_node("a", "return 1").await;
        let uri = app.graph("g", &["a"], json!({})).await;
        let (_, old) = app.execute(&uri, json!(0)).await;
        let (_, new) = app.execute(&uri, json!(0)).await;
        app.recorded(&new["run_id"]).await;
        assert!(tokio::task::block_in_place(|| app.stop()));
        app.sql(age).await;
        tokio::task::block_in_place(|| app.restart());
        let end = std::time::Instant::now() + crate::support::PATIENCE;
        while app.sql("SELECT count(*) FROM graph_runs").await != 1 {
            assert!(std::time::Instant::now() < end, "the old run is still there");
        }
        app.recorded(&new["run_id"]).await;
        assert_eq!(app.get(&format!("/graph/runs/{}", old["run_id"].as_str().unwrap())).await.0, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_may_what_they_may() {
    let app = TestApp::builder()
        .setting("auth_tokens", "admin:admin-token-1,operator:operator-token-1,viewer:viewer-token-1")
        .start();
    let send = async |token: &str, method: &str, path: &str| {
        let request = app.request(method, path).bearer_auth(token).body("{}");
        reply(request).await.status
    };
    for (path, method, viewer, operator) in [
        ("/graphs", "POST", 403, 403),
        ("/graphs/x:1-t", "PUT", 403, 403),
        ("/graphs/x:1-t", "DELETE", 403, 403),
        ("/graph/execute_graph", "POST", 403, 400),
        ("/graphs/check", "POST", 400, 400),
        ("/graphs/query", "POST", 200, 200),
        ("/graph/runs/query", "POST", 200, 200),
        ("/graphs/x:1-t", "GET", 404, 404),
        ("/graph/runs/x", "GET", 404, 404),
    ] {
        assert_eq!(send("viewer-token-1", method, path).await, viewer, "viewer {method} {path}");
        assert_eq!(send("operator-token-1", method, path).await, operator, "operator {method} {path}");
    }
}
