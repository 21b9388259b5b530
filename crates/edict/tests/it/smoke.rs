//! The shortest way through the product: register, find, run.

use crate::support::{Database, TestApp, policy, policy_source};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_policy_is_found_and_run() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let source = policy_source("return {'sum': input_data['a'] + parameters['b']}");
        let (status, reply) = app.json("POST", "/policy", &policy("adder", &source)).await;
        assert_eq!(status, 200, "{reply}");
        let (_, found) = app.json("POST", "/policy/query", &json!({"name": {"$regex": "^add"}})).await;
        assert_eq!(found["data"][0]["policy_rule_uri"], "adder:1.0-test");
        let run =
            json!({"policy_rule_uri": "adder:1.0-test", "input_data": {"a": 1}, "parameters": {"b": 2}});
        let (status, reply) = app.json("POST", "/executor/local/execute_policy", &run).await;
        assert_eq!((status, &reply["data"]), (200, &json!({"sum": 3})), "{reply}");
    }
}
