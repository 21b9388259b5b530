//! What callers should not send, and what they are told.

use crate::support::{Database, TestApp, policy, policy_source, reply};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn assert_refused(reply: &(u16, Value), status: u16, code: &str, named: &str, what: &str) {
    let (got, body) = reply;
    assert_eq!((*got, body["error"]["code"].as_str()), (status, Some(code)), "{what}: {body}");
    assert_eq!(body["success"], false);
    assert!(body["message"].as_str().unwrap().contains(named), "{what}: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_json_and_wrong_types() {
    let app = TestApp::start();
    let routes = ["/policy", "/policy/query", "/executor", "/executor/query", "/asset", "/assets"];
    for path in routes {
        for text in ["", "{", "{\"a\": }", "nul", "{} {}", "{'a': 1}", "\u{feff}{}"] {
            let reply = app.send("POST", path, text).await;
            assert_refused(&reply, 400, "malformed_json", "", &format!("{path} {text:?}"));
        }
        let reply = app.send("POST", path, vec![b'{', b'"', 0xff, 0xfe, b'"', b'}']).await;
        assert_refused(&reply, 400, "malformed_json", "", "bytes that are no UTF-8");
    }
    for path in ["/policy", "/executor", "/asset"] {
        for body in [json!([]), json!(3), json!("text"), Value::Null] {
            let reply = app.json("POST", path, &body).await;
            assert_refused(&reply, 400, "invalid_field", "the body", &format!("{path} {body}"));
        }
    }
    let source = policy_source("return 1");
    for (field, value) in [
        ("version", json!(1.0)),
        ("name", Value::Null),
        ("metadata", json!([])),
        ("tags", json!(3)),
        ("policy_input_schema", json!("x")),
        ("management_commands_schema", json!({})),
        ("code", json!({})),
        ("execution_limits", json!({"timeout_ms": "1"})),
        ("execution_limits", json!({"memory_mb": 1})),
        ("execution_limits", json!({"isolation": "none"})),
        ("code", json!("  ")),
        ("metadata", json!({"a": "nul\u{0}"})),
        ("description", json!("\u{0}")),
    ] {
        let mut record = policy("typed", &source);
        record[field] = value.clone();
        assert_refused(
            &app.json("POST", "/policy", &record).await,
            400,
            "invalid_field",
            field,
            &format!("{field} {value}"),
        );
    }
    for field in ["name", "version", "release_tag", "code"] {
        let mut record = policy("typed", &source);
        record.as_object_mut().unwrap().remove(field);
        assert_refused(&app.json("POST", "/policy", &record).await, 400, "invalid_field", field, "missing");
    }
    for uri in ["not a url", "ftp://host", "http://", "http://user:pw@host"] {
        let executor = json!({"executor_id": "e", "executor_host_uri": uri});
        assert_refused(
            &app.json("POST", "/executor", &executor).await,
            400,
            "invalid_field",
            "executor_host_uri",
            uri,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_named_with_the_nearest() {
    let app = TestApp::start();
    let mut record = policy("odd", &policy_source("return 1"));
    record["policy_setings"] = json!({});
    let refused = app.json("POST", "/policy", &record).await;
    assert_refused(&refused, 400, "unknown_field", "did you mean `policy_settings`?", "policy");
    assert_eq!(refused.1["error"]["details"]["nearest"], "policy_settings");
    let refused = app.json("POST", "/executor", &json!({"executor_id": "e", "executor_metdata": {}})).await;
    assert_refused(&refused, 400, "unknown_field", "`executor_metadata`", "executor");
    let refused = app.json("POST", "/asset", &json!({"asset_nam": "a"})).await;
    assert_refused(&refused, 400, "unknown_field", "`asset_name`", "asset");
    let run = json!({"policy_rule_uri": "a:1-1", "input": {}});
    let refused = app.json("POST", "/executor/local/execute_policy", &run).await;
    assert_refused(&refused, 400, "unknown_field", "`input`", "execute_policy");
    let mut limited = policy("limited", &policy_source("return 1"));
    limited["execution_limits"] = json!({"timeout": 1});
    let refused = app.json("POST", "/policy", &limited).await;
    assert_refused(&refused, 400, "unknown_field", "`timeout_ms`", "a field within a field");
    // Fields of the older system's records are kept.
    record = policy("old", &policy_source("return 1"));
    record["code_type"] = json!("zip");
    record["functionality_data"] = json!({"a": 1});
    record["resource_estimates"] = json!(null);
    let kept = app.register(&record).await;
    assert_eq!(
        (&kept["data"]["code_type"], &kept["data"]["functionality_data"]),
        (&json!("zip"), &json!({"a": 1}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_dangerous_elsewhere() {
    let app = TestApp::start();
    let source = policy_source("return 1");
    let long = "n".repeat(129);
    for name in [
        "",
        "a/b",
        "a:b",
        "..",
        "a..b",
        ".hidden",
        "-rf",
        "a\nb",
        "a\rb",
        "a b",
        "ä",
        "a\u{202e}b",
        "%2e%2e",
        &long,
    ] {
        for field in ["name", "version", "release_tag"] {
            let mut record = policy("n", &source);
            record[field] = json!(name);
            assert_refused(&app.json("POST", "/policy", &record).await, 400, "invalid_name", field, name);
        }
        let executor = json!({"executor_id": name});
        assert_refused(
            &app.json("POST", "/executor", &executor).await,
            400,
            "invalid_name",
            "executor_id",
            name,
        );
        let asset = json!({
            "asset_name": name, "asset_version": {"version": "1", "tag": "x"},
            "asset_public_url": "https://example.com/"
        });
        assert_refused(&app.json("POST", "/asset", &asset).await, 400, "invalid_name", "asset_name", name);
    }
    let nul = policy("a\u{0}b", &source);
    assert_refused(&app.json("POST", "/policy", &nul).await, 400, "invalid_field", "name", "NUL");
    assert_eq!(app.own_policies().await, json!([]));
}

/// Addresses that cannot exist: in our shape, and never as a fault of the server's own.
#[tokio::test(flavor = "multi_thread")]
async fn odd_paths() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        for odd in ["%00", "a%00b", "%FF%FE", "%2F..%2F", "..%2f..%2fetc%2fpasswd", "%27%3B--", "%0a", "x%7F"]
        {
            for path in [
                "/policy/@",
                "/policy/@/code",
                "/executor/@",
                "/asset/@",
                "/asset-object/@",
                "/executor/local/policy_state/@",
            ] {
                let path = path.replace('@', odd);
                let (status, body) = app.get(&path).await;
                let state = path.contains("policy_state") && status == 200;
                assert!(state || [400, 404].contains(&status), "{path}: {status} {body}");
                assert!(state || body["error"]["code"].is_string(), "{path}: {body}");
            }
            let path = format!("/policy/{odd}/context");
            let (status, body) = app.json("POST", &path, &json!({"op": "len"})).await;
            assert!(
                [400, 404].contains(&status) && body["error"]["code"].is_string(),
                "{path}: {status} {body}"
            );
            let run = json!({"policy_rule_uri": "nul\u{0}", "input_data": 1});
            let (status, body) = app.json("POST", "/executor/local/execute_policy", &run).await;
            assert!([400, 404].contains(&status), "{status} {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_json_is_refused_everywhere() {
    let app = TestApp::start();
    app.register(&policy("deep", &policy_source("return 1"))).await;
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    for deep in [
        nested("[", "]"),
        format!("{{\"a\":{}}}", nested("[", "]")),
        nested("{\"a\":", "}").replace(":}", ":1}"),
    ] {
        for (method, path) in [
            ("POST", "/policy"),
            ("POST", "/policy/query"),
            ("PUT", "/policy/deep:1.0-test"),
            ("POST", "/executor"),
            ("POST", "/policy/deep:1.0-test/context"),
            ("POST", "/assets"),
            ("PUT", "/executor/local/heartbeat"),
        ] {
            let reply = app.send(method, path, deep.clone()).await;
            assert_eq!(reply.0, 400, "{method} {path}: {}", reply.1);
            assert!(reply.1["error"]["code"].is_string(), "{}", reply.1);
        }
    }
    let run = format!("{{\"policy_rule_uri\": \"deep:1.0-test\", \"input_data\": {}}}", nested("[", "]"));
    let (status, body) = app.send("POST", "/executor/local/execute_policy", run).await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(app.run("deep:1.0-test", json!({})).await.1["data"], 1, "it still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_break_off() {
    let app = TestApp::start();
    let large = json!({"a": "x".repeat(10 << 20)}).to_string();
    for path in ["/policy", "/policy/query", "/executor/local/execute_policy"] {
        let refused = app.send("POST", path, large.clone()).await;
        assert_refused(&refused, 413, "body_too_large", "8 MiB", path);
    }
    let near = json!({"name": "x".repeat(7 << 20)}).to_string();
    assert_eq!(app.send("POST", "/policy/query", near).await.0, 200, "a large one within the limit is read");

    // A body that ends before its declared length: the server must not wait for ever, nor take the half.
    let address = app.url().replace("http://", "");
    let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let half = policy("half", &policy_source("return 1")).to_string();
    let request = format!(
        "POST /policy HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{half}",
        half.len() + 5
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(app.get("/policy/half:1.0-test").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_checked_on_registration() {
    let app = TestApp::start();
    for (field, schema, named) in [
        ("policy_input_schema", json!({"a": {"type": "strin"}}), "strin"),
        ("policy_output_schema", json!({"a": {"type": "string", "pattern": "("}}), "pattern"),
        ("policy_settings_schema", json!({"type": "object", "properties": {"a": {"type": 3}}}), ""),
        (
            "policy_parameters_schema",
            json!({"a": {"type": "array", "items": {"type": "nothing"}}}),
            "nothing",
        ),
        ("management_commands_schema", json!([{"description": "without a name"}]), "name"),
    ] {
        let mut record = policy("schemas", &policy_source("return 1"));
        record[field] = schema;
        let refused = app.json("POST", "/policy", &record).await;
        assert_refused(&refused, 422, "invalid_schema", field, field);
        assert!(refused.1["message"].as_str().unwrap().contains(named), "{}", refused.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_executor_stays() {
    let app = TestApp::start();
    assert_refused(
        &app.send("DELETE", "/executor/local", "").await,
        409,
        "executor_builtin",
        "`local`",
        "delete",
    );
    let rename = json!({"$set": {"executor_id": "other"}});
    assert_refused(
        &app.json("PUT", "/executor/local", &rename).await,
        409,
        "executor_builtin",
        "`local`",
        "rename",
    );
    let again = app.json("POST", "/executor", &json!({"executor_id": "local"})).await;
    assert_refused(&again, 409, "executor_exists", "`local`", "create");
    let route = app.json("POST", "/executor", &json!({"executor_id": "query"})).await;
    assert_refused(&route, 400, "invalid_name", "`query`", "a route's name");
    let tags = json!({"$set": {"metadata.tags": ["mine"]}});
    assert_eq!(app.json("PUT", "/executor/local", &tags).await.0, 200, "it can be described");
    let odd = reply(app.request("POST", "/executor/local/execute_policy?log=true").json(&json!({}))).await;
    assert_eq!((odd.status, &odd.json["error"]["code"]), (400, &json!("invalid_parameter")));
}
