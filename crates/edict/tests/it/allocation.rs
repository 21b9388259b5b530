//! Choosing executors: labels of nodes, and the allocator that ships.

use crate::support::{Database, TestApp};
use serde_json::{Value, json};

const DEFAULT: &str = "default_allocator:1.0-stable";

fn candidate(id: &str, load: Value, reason: Value) -> Value {
    json!({
        "executor_id": id, "executor_status": "healthy", "executor_metadata": {},
        "executor_hardware_info": {"vcpus": {"count": 2}, "memory": 1000},
        "load": load, "fits": reason.is_null(), "reason": reason,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_allocator_is_there_and_what_users_make_of_it_stays() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        let input = json!({"kind": "job", "request": {}, "executors": [
            candidate("a", json!({"runs_active": 1}), Value::Null),
            candidate("b", Value::Null, Value::Null),
            candidate("c", Value::Null, json!("no label")),
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
