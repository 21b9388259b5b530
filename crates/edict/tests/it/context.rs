//! `context` inside a policy: what is kept between runs.

use crate::support::{Database, TestApp, free_port, policy, policy_source, refusal};
use serde_json::{Value, json};
use std::time::Duration;

const EVERYTHING: &str = r#"
from collections.abc import MutableMapping

def expect(error, call):
    try:
        call()
    except error as raised:
        return str(raised)
    raise AssertionError("nothing was raised")

assert isinstance(context, MutableMapping)
assert not context and len(context) == 0 and list(context) == [] and context.items() == {}.items()
context["a"] = {"x": [1, 2.5, None, True, "é→\U0001f600"]}
context.update({"b": 2}, c="3")
assert context["a"]["x"] == [1, 2.5, None, True, "é→\U0001f600"]
assert context.get("a") == context["a"] and context.get("none") is None and context.get("none", 7) == 7
assert "a" in context and "none" not in context and 5 not in context
assert sorted(context) == sorted(context.keys()) == ["a", "b", "c"] and len(context) == 3
assert dict(context) == dict(context.items()) and "3" in list(context.values())
assert context.pop("b") == 2 and context.pop("b", None) is None
expect(KeyError, lambda: context.pop("b"))
expect(KeyError, lambda: context["b"])
expect(KeyError, lambda: context.__delitem__("b"))
expect(TypeError, lambda: context.__setitem__(1, 2))
del context["c"]
assert context.setdefault("a", 1) != 1 and context.setdefault("d", [1]) == [1]
context["null"] = None
assert "null" in context and context.get("null", 1) is None
assert context.incr("n") == 1 and context.incr("n", by=41) == 42 and context.incr("n", -2) == 40
assert context.incr("f", 0.5) == 0.5
expect(RuntimeError, lambda: context.incr("a"))
context.set("short", 1, ttl=0.2)
context.set("long", 1, ttl=3600)
assert context["short"] == 1
import time
time.sleep(0.3)
assert "short" not in context and context["long"] == 1 and "short" not in list(context)
assert "a" in repr(context)
context.clear()
assert len(context) == 0
context["kept"] = input_data
return "all well"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_a_mapping_that_lasts() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        for isolation in ["process", "instance"] {
            let limits = json!({"isolation": isolation});
            let uri = app.register_limited(isolation, &policy_source(EVERYTHING), limits).await;
            assert_eq!(app.result(&uri, json!({"deep": [isolation]})).await, "all well");
        }
        let reader = policy("other", &policy_source("return dict(context)"));
        let other = app.register_record(reader).await;
        assert_eq!(app.result(&other, json!(0)).await, json!({}), "policies share a context");
        app.kill();
        app.restart();
        for isolation in ["process", "instance"] {
            let path = format!("/policy/{isolation}:1.0-test/context");
            let (_, items) = app.json("POST", &path, &json!({"op": "items"})).await;
            assert_eq!(items["data"], json!({"kept": {"deep": [isolation]}}));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_lose_nothing_when_many_count_at_once() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let _executor = TestApp::executor("e1", &app).start();
        let uri = app.add("counter", "return [context.incr('n') for _ in range(4)]").await;
        let runs = (0..50).map(|run| app.run_on(if run % 2 == 0 { "local" } else { "e1" }, &uri, json!(0)));
        let mut seen = Vec::new();
        for (status, reply) in futures::future::join_all(runs).await {
            assert_eq!(status, 200, "{reply}");
            seen.extend(reply["data"].as_array().unwrap().iter().map(|number| number.as_u64().unwrap()));
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..=200).collect::<Vec<u64>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_executor_sees_the_same_context() {
    let app = TestApp::start();
    let executor = TestApp::executor("e1", &app).start();
    let body = "old = context.get('last')\ncontext['last'] = input_data\nreturn old";
    let uri = app.add("shared", body).await;
    for (executor, input, expected) in [
        ("local", json!(1), Value::Null),
        ("e1", json!([2]), json!(1)),
        ("local", json!({"x": 3}), json!([2])),
        ("e1", json!(4), json!({"x": 3})),
    ] {
        let (status, reply) = app.run_on(executor, &uri, input).await;
        assert_eq!((status, &reply["data"]), (200, &expected), "{executor}: {reply}");
    }
    drop(executor);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_context_cannot_hold_is_an_exception_in_the_policy() {
    let app = TestApp::start();
    let body = r#"
try:
    exec(input_data)
except Exception as error:
    return [type(error).__name__, str(error), len(context)]
return ["", "", len(context)]"#;
    for isolation in ["process", "instance"] {
        let uri =
            app.register_limited(isolation, &policy_source(body), json!({"isolation": isolation})).await;
        for (code, kind, message) in [
            ("context['x'] = 'y' * (1 << 20)", "RuntimeError", "1048576"),
            ("context['k' * 513] = 1", "RuntimeError", "512"),
            ("context[''] = 1", "RuntimeError", "key"),
            ("context['nul\\0'] = 1", "RuntimeError", "NUL"),
            ("context.set('x', 1, ttl=0)", "RuntimeError", "ttl"),
            ("context.set('x', 1, ttl=-1)", "RuntimeError", "ttl"),
            (
                "context.update({str(n): 'y' * 1000 for n in range(10)} | {'x': 'y' * (1 << 20)})",
                "RuntimeError",
                "1048576",
            ),
            ("context['x'] = {1, 2}", "NotJson", "set"),
            ("context['x'] = float('nan')", "NotJson", "nan"),
            ("context.incr('x', 'one')", "RuntimeError", "number"),
            ("context.incr('x', True)", "RuntimeError", "number"),
        ] {
            let result = app.result(&uri, json!(code)).await;
            assert_eq!(result[0], kind, "{code}: {result}");
            assert!(result[1].as_str().unwrap().contains(message), "{code}: {result}");
            assert_eq!(result[2], 0, "{code} left something: {result}");
        }
        assert_eq!(app.result(&uri, json!("context['fine'] = 'y' * 1000000")).await, json!(["", "", 1]));
        // Values keep their digits.
        let exact = "context['i'] = 2 ** 63; context['f'] = 0.1 + 0.2; assert context['i'] == 2 ** 63 and context['f'] == 0.1 + 0.2, context.items()";
        assert_eq!(app.result(&uri, json!(exact)).await[0], "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_goes_with_its_policy() {
    let app = TestApp::start();
    let uri = app.add("kept", "return context.incr('n')").await;
    assert_eq!(app.result(&uri, json!(0)).await, 1);
    // A changed policy keeps it, also under its new name; a removed one doesn't.
    let (_, moved) = app.json("PUT", &format!("/policy/{uri}"), &json!({"$set": {"version": "2.0"}})).await;
    let moved = moved["data"]["policy_rule_uri"].as_str().unwrap().to_owned();
    assert_eq!(app.result(&moved, json!(0)).await, 2);
    app.send("DELETE", &format!("/policy/{moved}"), "").await;
    let gone = app.json("POST", &format!("/policy/{moved}/context"), &json!({"op": "len"})).await;
    assert_eq!(refusal(&gone), (404, "policy_not_found"));
    let mut record = policy("kept", &policy_source("return context.incr('n')"));
    record["version"] = json!("2.0");
    let again = app.register_record(record).await;
    assert_eq!(app.result(&again, json!(0)).await, 1);
}

/// A policy that leaves its context alone needs nobody who keeps one.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_touch_it_runs_while_the_policy_system_is_away() {
    const TOKEN: &str = "direct-call-token";
    let mut app = TestApp::builder().setting("system_port", free_port()).start();
    let executor = TestApp::executor("e1", &app).setting("auth_tokens", format!("operator:{TOKEN}")).start();
    let quiet = app.add("quiet", "return input_data + 1").await;
    let chatty = app
        .add(
            "chatty",
            "try:\n    return context.incr('n')\nexcept RuntimeError as error:\n    return str(error)",
        )
        .await;
    for (uri, expected) in [(&quiet, json!(2)), (&chatty, json!(1))] {
        let (status, reply) = app.run_on("e1", uri, json!(1)).await;
        assert_eq!((status, &reply["data"]), (200, &expected), "{reply}");
    }
    // The policy system tells the executor the edition; here the test does.
    let edition = async |uri: &str| {
        let (_, reply) = app.get(&format!("/policy/{uri}")).await;
        format!("1@{}", reply["data"]["created_at"].as_str().unwrap())
    };
    let editions = [edition(&quiet).await, edition(&chatty).await];
    let direct = |uri: &str, edition: &str| {
        let request = json!({"policy_rule_uri": uri, "input_data": 1}).to_string();
        let post = crate::support::http().post(format!("{}/execute_policy", executor.url()));
        post.bearer_auth(TOKEN).header("x-edict-policy-edition", edition).body(request).send()
    };
    app.kill();
    for (uri, edition, expected) in [(&quiet, &editions[0], json!(2)), (&chatty, &editions[1], Value::Null)] {
        let reply =
            tokio::time::timeout(Duration::from_secs(20), direct(uri, edition)).await.unwrap().unwrap();
        let reply: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
        if expected.is_null() {
            assert!(reply["data"].as_str().unwrap().contains("cannot reach its policy system"), "{reply}");
        } else {
            assert_eq!(reply["data"], expected, "{reply}");
        }
    }
    app.restart();
    let (status, reply) = app.run_on("e1", &quiet, json!(1)).await;
    assert_eq!((status, &reply["data"]), (200, &json!(2)), "{reply}");
}
