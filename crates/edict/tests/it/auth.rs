//! Who may call what.

use crate::support::{TestApp, edict, http, policy, policy_source, reply};
use serde_json::{Value, json};

const ADMIN: &str = "admin-token-0123";
const OPERATOR: &str = "operator-token-0123";
const VIEWER: &str = "viewer-token-0123";

fn guarded() -> TestApp {
    let tokens = format!("admin:{ADMIN},operator:{OPERATOR},viewer:{VIEWER}");
    TestApp::builder().setting("auth_tokens", tokens).start()
}

/// The lowest role that may use a route; whoever adds a route decides here, too.
fn role_for(method: &str, path: &str) -> &'static str {
    match (method, path.rsplit('/').next().unwrap()) {
        // What an attempt is to do is for whoever carries it out.
        ("get", "attempt") => "operator",
        ("get", _) | ("post", "query" | "assets") => "viewer",
        (_, "execute_policy" | "execute_mgmt_command" | "context" | "heartbeat") => "operator",
        ("patch", "{policy_rule_uri}" | "changes") | ("put", "status") | ("post", "token") => "operator",
        _ if ["/jobs/", "/function/call_function/", "/function/management/"]
            .iter()
            .any(|part| path.contains(part)) =>
        {
            "operator"
        }
        ("post", "execute_graph") => "operator",
        ("post", "check") => "viewer",
        _ => "admin",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_wants_its_role() {
    let app = guarded();
    let api = reply(app.request("GET", "/openapi.json")).await.json;
    let mut routes = 0;
    for (path, methods) in api["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes += 1;
            let concrete = path.replace("{executor_id}", "local").replace("{", "no").replace("}", "");
            let send = |token: Option<&'static str>| {
                let request = app.request(&method.to_uppercase(), &concrete);
                reply(match token {
                    Some(token) => request.bearer_auth(token),
                    None => request,
                })
            };
            let nobody = send(None).await;
            assert_eq!(
                (nobody.status, &nobody.json["error"]["code"]),
                (401, &json!("unauthorized")),
                "{method} {path}"
            );
            assert_eq!(nobody.header("www-authenticate"), "Bearer");
            assert_eq!(send(Some("wrong-token-0123")).await.status, 401, "{method} {path}");
            let needed = role_for(method, path);
            for (role, token) in [("viewer", VIEWER), ("operator", OPERATOR), ("admin", ADMIN)] {
                let rank =
                    |role: &str| ["viewer", "operator", "admin"].iter().position(|known| *known == role);
                let got = send(Some(token)).await;
                let may = rank(role) >= rank(needed);
                // Who is let in is told what is wrong with the empty request.
                assert_eq!(![401, 403].contains(&got.status), may, "{role} {method} {path}: {got:?}");
                assert!(may || got.json["error"]["code"] == "forbidden", "{role} {method} {path}: {got:?}");
            }
        }
    }
    assert!(routes > 20, "only {routes} routes were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_carry_through_a_policys_life() {
    let app = guarded();
    let record = policy("guarded", &policy_source("return 1"));
    let as_role = |token: &'static str, method: &'static str, path: &'static str, body: Value| {
        reply(app.request(method, path).bearer_auth(token).json(&body))
    };
    assert_eq!(as_role(OPERATOR, "POST", "/policy", record.clone()).await.status, 403);
    assert_eq!(as_role(ADMIN, "POST", "/policy", record).await.status, 200);
    let run = json!({"policy_rule_uri": "guarded:1.0-test", "input_data": {}});
    assert_eq!(as_role(VIEWER, "POST", "/executor/local/execute_policy", run.clone()).await.status, 403);
    assert_eq!(as_role(OPERATOR, "POST", "/executor/local/execute_policy", run).await.json["data"], 1);
    assert_eq!(as_role(VIEWER, "GET", "/policy/guarded:1.0-test", json!({})).await.status, 200);
    assert!(!app.log().contains("token-0123"), "tokens stay out of the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_server_answers_this_machine_only() {
    let app = TestApp::start();
    let ask = |name: &'static str, value: &'static str| {
        reply(app.request("GET", "/executor/local").header(name, value))
    };
    assert_eq!(ask("origin", "http://localhost:3000").await.status, 200);
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "evil.example:5000"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let refused = ask(name, value).await;
        assert_eq!(
            (refused.status, &refused.json["error"]["code"]),
            (403, &json!("forbidden")),
            "{name}: {value}"
        );
    }
    // A form of a page elsewhere could upload; the browser tells where it comes from.
    let upload = app.request("POST", "/upload_asset").header("origin", "https://evil.example");
    assert_eq!(
        reply(upload.header("content-type", "multipart/form-data; boundary=b").body("--b--")).await.status,
        403
    );
    assert_eq!(
        reply(http().get(format!("{}/healthz", app.url())).header("host", "evil.example")).await.status,
        200
    );
}

#[test]
fn a_server_for_the_network_wants_tokens() {
    let dir = tempfile::TempDir::new().unwrap();
    for address in ["0.0.0.0", "::"] {
        let ports = ["--system-port", "0", "--engine-port", "0", "--actions-port", "0"];
        let mut command = edict(dir.path());
        let output =
            command.args(["serve", "--data-dir", "data", "--bind", address]).args(ports).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("auth_tokens") && error.contains(address), "{error}");
        assert!(!dir.path().join("data").exists(), "it stopped before it touched anything");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_the_server_opens_to_the_network() {
    let app = TestApp::builder()
        .setting("bind", "0.0.0.0")
        .setting("auth_tokens", format!("admin:{ADMIN}"))
        .start();
    assert_eq!(app.get("/executor/local").await.0, 401);
    let foreign = app.request("GET", "/executor/local").header("host", "edict.example").bearer_auth(ADMIN);
    assert_eq!(reply(foreign).await.status, 200, "the token is the protection, not the name");
}
