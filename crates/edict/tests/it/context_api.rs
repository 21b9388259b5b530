//! What policies keep between runs, through the API.

use crate::support::{Database, TestApp, policy, policy_source};
use futures::future::join_all;
use serde_json::{Map, Value, json};
use std::time::Duration;

async fn start(database: Database) -> TestApp {
    let app = TestApp::builder().database(database).start();
    app.register(&policy("p", &policy_source("return context.incr('n')"))).await;
    app.register(&policy("q", &policy_source("return 1"))).await;
    app
}

async fn operate(app: &TestApp, operation: Value) -> (u16, Value) {
    app.json("POST", "/policy/p:1.0-test/context", &operation).await
}

async fn done(app: &TestApp, operation: Value) -> Value {
    let (status, reply) = operate(app, operation.clone()).await;
    assert_eq!(status, 200, "{operation}: {reply}");
    reply["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_works() {
    for database in Database::each() {
        let app = start(database).await;
        let steps = [
            (json!({"op": "get", "key": "a"}), json!({"found": false, "value": null})),
            (json!({"op": "set", "key": "a", "value": {"deep": [1, "é\u{0}"]}}), Value::Null),
            (json!({"op": "get", "key": "a"}), json!({"found": true, "value": {"deep": [1, "é\u{0}"]}})),
            (json!({"op": "set", "key": "a", "value": null}), Value::Null),
            (json!({"op": "get", "key": "a"}), json!({"found": true, "value": null})),
            (json!({"op": "set_default", "key": "b", "value": 2}), json!(2)),
            (json!({"op": "set_default", "key": "b", "value": 3}), json!(2)),
            (json!({"op": "incr", "key": "c"}), json!(1)),
            (json!({"op": "incr", "key": "c", "by": -3}), json!(-2)),
            (json!({"op": "incr", "key": "c", "by": 0.5}), json!(-1.5)),
            (json!({"op": "update", "entries": {"d": 4, "e'; DROP TABLE context; --": 5}}), Value::Null),
            (json!({"op": "keys"}), json!(["a", "b", "c", "d", "e'; DROP TABLE context; --"])),
            (json!({"op": "len"}), json!(5)),
            (json!({"op": "pop", "key": "d"}), json!({"found": true, "value": 4})),
            (json!({"op": "pop", "key": "d"}), json!({"found": false, "value": null})),
            (json!({"op": "delete", "key": "a"}), json!({"found": true})),
            (json!({"op": "delete", "key": "a"}), json!({"found": false})),
            (json!({"op": "items"}), json!({"b": 2, "c": -1.5, "e'; DROP TABLE context; --": 5})),
            (json!({"op": "clear"}), Value::Null),
            (json!({"op": "items"}), json!({})),
        ];
        let other = json!({"op": "set", "key": "mine", "value": 1});
        app.json("POST", "/policy/q:1.0-test/context", &other).await;
        for (operation, expected) in steps {
            let got = done(&app, operation.clone()).await;
            // Whole numbers may come back without a fraction and the other way round.
            assert_eq!(got, expected, "{operation}");
        }
        let left = app.json("POST", "/policy/q:1.0-test/context", &json!({"op": "keys"})).await.1;
        assert_eq!(left["data"], json!(["mine"]), "each policy has its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_disappear_when_their_time_is_over() {
    for database in Database::each() {
        let app = start(database).await;
        done(&app, json!({"op": "set", "key": "short", "value": 1, "ttl_seconds": 0.6})).await;
        done(&app, json!({"op": "set", "key": "long", "value": 1, "ttl_seconds": 600})).await;
        assert_eq!(done(&app, json!({"op": "incr", "key": "short"})).await, 2, "it is there before");
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while done(&app, json!({"op": "get", "key": "short"})).await["found"] == true {
            assert!(std::time::Instant::now() < end, "incr must keep the time of expiry");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(done(&app, json!({"op": "keys"})).await, json!(["long"]));
        assert_eq!(done(&app, json!({"op": "len"})).await, 1);
        assert_eq!(done(&app, json!({"op": "set_default", "key": "short", "value": 9})).await, 9);
        assert_eq!(
            done(&app, json!({"op": "pop", "key": "short"})).await["value"],
            9,
            "without an expiry now"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_increments_at_once_make_a_hundred() {
    for database in Database::each() {
        let app = start(database).await;
        let increments = (0..100).map(|n| {
            let app = &app;
            async move {
                // From outside and from runs, which share the context.
                let sum = if n % 4 == 0 {
                    app.run("p:1.0-test", json!({})).await.1["data"].clone()
                } else {
                    done(app, json!({"op": "incr", "key": "n"})).await
                };
                sum.as_u64().unwrap()
            }
        });
        let mut sums = join_all(increments).await;
        sums.sort_unstable();
        assert_eq!(sums, (1..=100).collect::<Vec<_>>(), "each saw a sum of its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused() {
    for database in Database::each() {
        let app = start(database).await;
        done(&app, json!({"op": "update", "entries": {"word": "w", "most": i64::MAX}})).await;
        let cases = [
            json!({"op": "set", "key": "", "value": 1}),
            json!({"op": "set", "key": "k".repeat(513), "value": 1}),
            json!({"op": "set", "key": "nul\u{0}", "value": 1}),
            json!({"op": "get", "key": "nul\u{0}"}),
            json!({"op": "set", "key": "a", "value": "v".repeat(1 << 20)}),
            json!({"op": "update", "entries": {"a": 1, "b": "v".repeat(1 << 20)}}),
            json!({"op": "update", "entries": (0..=100_000).map(|n| (n.to_string(), n.into())).collect::<Map<_, _>>()}),
            json!({"op": "set", "key": "a", "value": 1, "ttl_seconds": 0}),
            json!({"op": "set", "key": "a", "value": 1, "ttl_seconds": -1}),
            json!({"op": "set", "key": "a", "value": 1, "ttl_seconds": 1e300}),
            json!({"op": "incr", "key": "word"}),
            json!({"op": "incr", "key": "most"}),
        ];
        for operation in cases {
            let (status, reply) = operate(&app, operation.clone()).await;
            let shown: String = operation.to_string().chars().take(80).collect();
            assert_eq!(
                (status, &reply["error"]["code"]),
                (422, &json!("context_invalid")),
                "{shown}: {reply}"
            );
        }
        for (operation, code) in [
            (json!({"op": "explode"}), "invalid_field"),
            (json!({"op": "get"}), "invalid_field"),
            (json!({"op": "get", "key": "a", "x": 1}), "unknown_field"),
            (json!(3), "invalid_field"),
        ] {
            let (status, reply) = operate(&app, operation.clone()).await;
            assert_eq!((status, &reply["error"]["code"]), (400, &json!(code)), "{operation}: {reply}");
        }
        assert_eq!(done(&app, json!({"op": "keys"})).await, json!(["most", "word"]), "nothing was half-done");
        let (status, reply) = app.json("POST", "/policy/nobody:1-1/context", &json!({"op": "len"})).await;
        assert_eq!((status, &reply["error"]["code"]), (404, &json!("policy_not_found")));
    }
}
