//! Decisions: the requests of the specification, how they may be asked, and what is refused.

use crate::sdk::python;
use crate::support::{Database, TestApp, ask, decision_policy, refusal, reply};
use serde_json::{Value, json};
use std::process::Command;

/// The specification's own client, as it stands; its second half asks for an action.
const CLIENT: &str = include_str!("spec/executor_policy_integration.py");

fn heal(action: &str, resource: &str, context: Value) -> Value {
    json!({"action": action, "resource": resource, "type": "self_healing", "context": context})
}

#[test]
fn the_client_of_the_specification_works_as_it_stands() {
    let Some(python) = python() else { return };
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let (check, _) = CLIENT.split_once("import hmac").unwrap();
        let client = check.replace("http://localhost:3000", &app.listener("engine"));
        let output = Command::new(&python).args(["-c", &client]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let expected = "Policy decision: True\nReason: allowed by policy `self-healing-restart-pod`: automation may restart pods\n";
        assert_eq!(printed, expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_starter_set_allows_the_examples_of_the_specification_and_nothing_near_them() {
    let app = TestApp::start();
    let service = || json!({"userId": "ai-engine", "role": "service"});
    let anomaly = json!({"userId": "ai-engine", "role": "service", "metadata": {"severity": "high", "confidence": 0.97, "automated": true}});
    for request in [
        heal("restart_pod", "pod:api-pod-12345", anomaly.clone()),
        heal("restart_pod", "production:resource", anomaly.clone()),
        heal("scale_deployment", "production:resource", anomaly.clone()),
        heal("restart_pod", "pod:test", service()),
        heal("scale_deployment", "deployment:api-deployment", service()),
        heal("restart_pod", "pod:a:b", service()),
        heal("restart_pod", "pod:", json!({"roles": ["other", "service"]})),
    ] {
        let decision = app.decide(&request).await;
        assert_eq!(decision["allowed"], true, "{request}: {decision}");
    }
    let typed = |kind: &str| json!({"action": "restart_pod", "resource": "pod:test", "type": kind, "context": service()});
    for request in [
        heal("restart_pod", "pod:test", json!({"userId": "ai-engine", "role": "Service"})),
        heal("restart_pod", "pod:test", json!({"userId": "service"})),
        heal("restart_pod", "pod:test", json!({"role": "service "})),
        heal("restart_pod", "pod:test", json!({"role": ""})),
        heal("restart_pod", "pod:test", json!({"role": null})),
        heal("restart_pod", "pod:test", json!({"roles": ["services"]})),
        heal("restart_pod", "pod:test", json!({"metadata": {"role": "service"}})),
        heal("restart_pod", "pod:test", json!({})),
        heal("restart_pod", "pod", service()),
        heal("restart_pod", "Pod:test", service()),
        heal("restart_pod", " pod:test", service()),
        heal("restart_pod", "deployment:api", service()),
        heal("restart_pod", "production:resources", service()),
        heal("scale_deployment", "pod:test", service()),
        heal("delete_pod", "pod:test", service()),
        heal("rollback_deployment", "deployment:api", service()),
        heal("restart_deployment", "deployment:api", service()),
        heal("restart_pods", "pod:test", service()),
        heal("*", "*", service()),
        typed("self-healing"),
        typed("*"),
        typed("deploy"),
    ] {
        let decision = app.decide(&request).await;
        assert_eq!(
            (&decision["allowed"], &decision["appliedPolicies"]),
            (&json!(false), &json!([])),
            "{request}"
        );
        let reason = decision["reason"].as_str().unwrap();
        assert!(reason.starts_with("no policy allows `"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_starter_set_comes_once_per_database() {
    for database in Database::each() {
        let app = TestApp::builder().database(database.clone()).setting("decisions_starter", false).start();
        assert_eq!(app.decision_names().await, [""; 0], "it was not wanted");
    }
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        let both = ["self-healing-restart-pod", "self-healing-scale-deployment"];
        assert_eq!(app.decision_names().await, both);
        let (status, gone) = app.engine("DELETE", &format!("/{}", both[0]), &Value::Null).await;
        assert_eq!((status, &gone["name"]), (200, &json!(both[0])));
        assert!(app.stop());
        app.restart();
        assert_eq!(app.decision_names().await, both[1..], "what was deleted stays deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_has_the_plain_shape_and_denies_win() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        app.add_decision(decision_policy("may", "allow", json!({"priority": 900, "description": "for all"})))
            .await;
        let decision = app.decide(&ask(json!({}))).await;
        let id = decision["decisionId"].as_str().unwrap();
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
        let expected = json!({
            "allowed": true, "reason": "allowed by policy `may`: for all", "appliedPolicies": ["may"], "decisionId": id,
        });
        assert_eq!(decision, expected);
        app.add_decision(decision_policy("guests", "deny", json!({"conditions": {"role": "guest"}}))).await;
        app.add_decision(decision_policy(
            "elsewhere",
            "deny",
            json!({"conditions": {"ipRange": "10.0.0.0/8"}, "priority": 5}),
        ))
        .await;
        let decision = app.decide(&ask(json!({"role": "guest"}))).await;
        assert_eq!(decision["reason"], "denied by policy `guests`");
        assert_eq!(decision["appliedPolicies"], json!(["may", "guests"]));
        let decision = app.decide(&ask(json!({"ipAddress": "somewhere"}))).await;
        assert_eq!(
            (&decision["allowed"], &decision["errors"][0]["policy"]),
            (&json!(false), &json!("elsewhere"))
        );
        assert_eq!(decision["errors"][0]["field"], "ipRange");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_filled_in_where_the_request_does_not_say_it() {
    let app = TestApp::start();
    let here = json!({"ipRange": "127.0.0.0/8", "userAgent": {"$regex": "^probe/"}});
    app.add_decision(decision_policy("here", "allow", json!({"conditions": here}))).await;
    let decide = async |request: Value| {
        let request = app.engine_request("POST", "/api/v1/policy/evaluate").body(request.to_string());
        let decision =
            reply(request.header("user-agent", "probe/1.0").header("x-forwarded-for", "10.1.1.1")).await;
        decision.json["allowed"].clone()
    };
    assert_eq!(decide(json!({"action": "a", "resource": "r", "type": "t"})).await, true);
    assert_eq!(decide(json!({"action": "a", "resource": "r", "type": "t", "context": null})).await, true);
    assert_eq!(decide(ask(json!({"ipAddress": null, "userAgent": null}))).await, true);
    assert_eq!(decide(ask(json!({"ipAddress": "10.0.0.1"}))).await, false);
    assert_eq!(decide(ask(json!({"userAgent": "other"}))).await, false);
    let got = app.engine_request("GET", "/api/v1/policy/evaluate?action=a&resource=r&type=t");
    assert_eq!(reply(got.header("user-agent", "probe/2")).await.json["allowed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_parameters_ask_the_same() {
    let app = TestApp::start();
    let conditions = json!({
        "roles": "ops", "userId": "ann", "metadata": {"replicas": {"$lte": 5}, "automated": true, "note": "a,b"},
    });
    app.add_decision(decision_policy("few", "allow", json!({"conditions": conditions}))).await;
    let base = "/evaluate?action=a&resource=r&type=t&userId=ann";
    for (more, allowed) in [
        ("&roles=x,ops&metadata.replicas=5&metadata.automated=true&metadata.note=a,b", true),
        ("&roles=x&roles=ops&metadata={\"replicas\":5,\"automated\":true,\"note\":\"a,b\"}", true),
        ("&role=ops&metadata={\"replicas\":5}&metadata.automated=true&metadata.note=%22a,b%22", true),
        ("&role=ops&metadata.replicas=6&metadata.automated=true&metadata.note=a,b", false),
        ("&role=ops&metadata.replicas=%225%22&metadata.automated=true&metadata.note=a,b", false),
        ("&metadata.replicas=5&metadata.automated=true&metadata.note=a,b", false),
    ] {
        let (status, decision) = app.engine_get(&format!("{base}{more}")).await;
        assert_eq!((status, &decision["allowed"]), (200, &json!(allowed)), "{more}: {decision}");
    }
    for (bad, code, said) in [
        ("/evaluate?action=a&resource=r", "invalid_parameter", "`type` is missing"),
        ("/evaluate?action=a&resource=r&type=t&rol=x", "invalid_parameter", "did you mean `role`?"),
        ("/evaluate?action=a&action=b&resource=r&type=t", "invalid_parameter", "`action` is there twice"),
        (
            "/evaluate?action=a&resource=r&type=t&metadata.a=1&metadata={\"a\":2}",
            "invalid_parameter",
            "twice",
        ),
        ("/evaluate?action=a&resource=r&type=t&metadata=[1]", "invalid_parameter", "not a JSON object"),
        ("/evaluate?action=a&resource=r&type=t&explain=yes", "invalid_parameter", "true or false"),
        ("/evaluate?action=&resource=r&type=t", "invalid_field", "`action` has 0 bytes"),
    ] {
        let refused = app.engine_get(bad).await;
        assert_eq!(refusal(&refused), (400, code), "{bad}");
        assert!(refused.1["message"].as_str().unwrap().contains(said), "{bad}: {}", refused.1["message"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_each_request_in_its_place() {
    let app = TestApp::start();
    app.add_decision(decision_policy("ops", "allow", json!({"conditions": {"role": "ops"}}))).await;
    let good = ask(json!({"role": "ops"}));
    let requests = json!({"requests": [good, {"action": 1}, ask(json!({})), [], {"action": "a", "resource": "r", "type": "t", "x": 1}]});
    let (status, answer) = app.engine("POST", "/evaluate/batch", &requests).await;
    assert_eq!(status, 200, "{answer}");
    let decisions = answer["decisions"].as_array().unwrap();
    let allowed: Vec<&Value> = decisions.iter().map(|decision| &decision["allowed"]).collect();
    assert_eq!(allowed, [&json!(true), &Value::Null, &json!(false), &Value::Null, &Value::Null]);
    let codes: Vec<&Value> = decisions.iter().map(|decision| &decision["error"]["code"]).collect();
    let (field, unknown) = (json!("invalid_field"), json!("unknown_field"));
    assert_eq!(codes, [&Value::Null, &field, &Value::Null, &field, &unknown]);
    assert_eq!(decisions[1]["success"], false);
    let ids: std::collections::BTreeSet<String> =
        decisions.iter().map(|decision| decision["decisionId"].to_string()).collect();
    assert_eq!(ids.len(), 3, "each decision has an id of its own, errors have none");
    let explained = app.engine("POST", "/evaluate/batch?explain=true", &json!({"requests": [good]})).await.1;
    assert_eq!(explained["decisions"][0]["considered"][0]["policy"], "ops");
    for bad in [
        json!({"requests": []}),
        json!({"requests": vec![good.clone(); 1001]}),
        json!({"request": []}),
        json!([]),
    ] {
        assert_eq!(app.engine("POST", "/evaluate/batch", &bad).await.0, 400);
    }
    assert_eq!(app.engine("POST", "/evaluate/batch", &json!({"requests": vec![good; 1000]})).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_shows_every_policy() {
    let app = TestApp::start();
    app.add_decision(decision_policy("ops", "allow", json!({"conditions": {"role": "ops"}}))).await;
    app.add_decision(decision_policy("off", "deny", json!({"isActive": false}))).await;
    let (status, explained) =
        app.engine("POST", "/evaluate?explain=true", &ask(json!({"role": "dev"}))).await;
    assert_eq!((status, &explained["allowed"]), (200, &json!(false)));
    assert!(explained["decisionId"].is_string() && explained["reason"].is_string());
    let considered = explained["considered"].as_array().unwrap();
    let stages: Vec<String> = considered
        .iter()
        .map(|policy| format!("{} {}", policy["policy"].as_str().unwrap(), policy["stage"].as_str().unwrap()))
        .collect();
    let expected = [
        "ops conditions",
        "self-healing-restart-pod type",
        "self-healing-scale-deployment type",
        "off inactive",
    ];
    assert_eq!(stages, expected);
    assert_eq!(considered[0]["why"], "condition `role` does not hold: it is `dev`");
    let got = app.engine_get("/evaluate?action=a&resource=r&type=t&role=dev&explain=true").await;
    assert_eq!(got.1["considered"], explained["considered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_with_its_field() {
    let app = TestApp::start();
    let long = "x".repeat(4097);
    for (body, code, said) in [
        (String::new(), "malformed_json", "not valid JSON"),
        ("{\"action\": ".to_owned(), "malformed_json", "not valid JSON"),
        ("[".repeat(200), "malformed_json", "not valid JSON"),
        ("null".to_owned(), "invalid_field", "not an object"),
        ("{}".to_owned(), "invalid_field", "`action` is missing"),
        (json!({"action": "a", "resource": "r", "type": 1}).to_string(), "invalid_field", "`type` is `1`"),
        (
            json!({"action": "a", "resource": "r", "type": long}).to_string(),
            "invalid_field",
            "`type` has 4097 bytes",
        ),
        (
            json!({"action": "a", "ressource": "r", "type": "t"}).to_string(),
            "unknown_field",
            "did you mean `resource`?",
        ),
        (ask(json!([])).to_string(), "invalid_field", "`context`"),
        (ask(json!({"role": 1})).to_string(), "invalid_field", "`context.role` is `1`"),
        (ask(json!({"roles": ["a", 2]})).to_string(), "invalid_field", "`context.roles`"),
        (ask(json!({"metadata": "x"})).to_string(), "invalid_field", "`context.metadata`"),
        (
            r#"{"action": "a", "resource": "r", "type": "t", "type": "u"}"#.to_owned(),
            "invalid_field",
            "duplicate field",
        ),
        (
            r#"{"action": "a", "resource": "r", "type": "t", "context": {"role": "a", "role": "b"}}"#
                .to_owned(),
            "invalid_field",
            "duplicate field",
        ),
    ] {
        let shown: String = body.chars().take(80).collect();
        let refused = app.engine_raw("POST", "/evaluate", body).await;
        assert_eq!((refused.status, refused.json["error"]["code"].as_str().unwrap()), (400, code), "{shown}");
        assert!(
            refused.json["message"].as_str().unwrap().contains(said),
            "{shown}: {}",
            refused.json["message"]
        );
    }
    let huge = app.engine_raw("POST", "/evaluate", ask(json!({"x": "y".repeat(9 << 20)})).to_string()).await;
    assert_eq!(huge.status, 413);
    assert_eq!(app.engine("POST", "/evaluate?explian=true", &ask(json!({}))).await.0, 400);
}

/// Each of these holds a naive matcher for minutes; the reader's patience is half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_patterns_and_texts_are_answered() {
    let app = TestApp::start();
    let stars = "*a".repeat(300) + "*b";
    let text = "a".repeat(300);
    app.add_decision(decision_policy(
        "stars",
        "allow",
        json!({"actions": [stars, "*a*a*a*a*a*b"], "resources": ["*a*a*a*a*a*b", "*"]}),
    ))
    .await;
    let regex = json!({"metadata": {"x": {"$regex": "^(a+)+$"}, "y": {"$regex": "(a|aa)+b"}}});
    app.add_decision(decision_policy(
        "regex",
        "allow",
        json!({"actions": ["*"], "resources": ["*"], "conditions": regex}),
    ))
    .await;
    let literal = json!({"actions": ["a.b(c)[d]+$^|\\"], "resources": ["p:*:q"]});
    app.add_decision(decision_policy("literal", "allow", literal)).await;
    let request = |action: &str, resource: &str, x: &str| json!({"action": action, "resource": resource, "type": "t", "context": {"metadata": {"x": x, "y": x}}});
    let decision = app.decide(&request(&text, &text, &format!("{}!", "a".repeat(100_000)))).await;
    assert_eq!(decision["allowed"], false, "{}", decision["reason"]);
    assert_eq!(
        app.decide(&request(&format!("{text}b"), &text, "")).await["appliedPolicies"],
        json!(["stars"])
    );
    assert_eq!(
        app.decide(&request("a.b(c)[d]+$^|\\", "p:a:b:q", "")).await["appliedPolicies"],
        json!(["literal"])
    );
    assert_eq!(app.decide(&request("aXb(c)[d]+$^|\\", "p:a:b:q", "")).await["allowed"], false);
    let refused = decision_policy(
        "big",
        "deny",
        json!({"conditions": {"metadata": {"x": {"$regex": "(a{1000}){1000}"}}}}),
    );
    assert_eq!(refusal(&app.engine("POST", "", &refused).await), (422, "invalid_decision_policy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_engine_wants_its_role() {
    const TOKENS: [(&str, &str); 3] =
        [("viewer", "viewer-token-0123"), ("operator", "operator-token-0123"), ("admin", "admin-token-0123")];
    let tokens = TOKENS.map(|(role, token)| format!("{role}:{token}")).join(",");
    let app = TestApp::builder().setting("auth_tokens", tokens).start();
    let api = reply(app.engine_request("GET", "/openapi.json")).await.json;
    let mut routes = 0;
    for (path, methods) in api["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes += 1;
            let send = |token: Option<&'static str>| {
                let request = app.engine_request(&method.to_uppercase(), &path.replace("{id}", "none"));
                reply(token.into_iter().fold(request, |request, token| request.bearer_auth(token)))
            };
            assert_eq!(send(None).await.status, 401, "{method} {path}");
            let needed = match (method.as_str(), path.as_str()) {
                (_, path) if path.contains("/evaluate") => 1,
                ("get", _) | ("post", "/api/v1/policy/query") => 0,
                _ => 2,
            };
            for (rank, (role, token)) in TOKENS.into_iter().enumerate() {
                let status = send(Some(token)).await.status;
                assert_eq!(status == 403, rank < needed, "{method} {path} for {role}: {status}");
            }
        }
    }
    assert!(routes >= 11, "{routes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_counted() {
    let app = TestApp::start();
    app.decide(&heal("restart_pod", "pod:a", json!({"role": "service"}))).await;
    app.decide(&heal("restart_pod", "pod:a", json!({}))).await;
    app.add_decision(decision_policy("net", "deny", json!({"conditions": {"ipRange": "10.0.0.0/8"}}))).await;
    app.decide(&ask(json!({"ipAddress": "nowhere"}))).await;
    let metrics = reply(app.engine_request("GET", "/metrics")).await.bytes;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in [
        "edict_decisions_total{result=\"allowed\"} 1",
        "edict_decisions_total{result=\"denied\"} 2",
        "edict_decision_errors_total 1",
        "edict_decision_policies 3",
        "edict_decision_policies_unreadable 0",
        "edict_decision_duration_seconds_count 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("self_healing"), "what callers write is no label");
}
