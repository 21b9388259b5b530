//! Conditions that a registered Python policy decides, with real workers.

use crate::support::{Database, TestApp, ask, decision_policy};
use serde_json::{Value, json};
use std::time::Instant;

/// A decision policy that asks this Python policy.
fn asks(name: &str, effect: &str, uri: &str) -> Value {
    decision_policy(name, effect, json!({"conditions": {"policyRuleUri": uri, "metadata": {"case": name}}}))
}

fn case(name: &str) -> Value {
    ask(json!({"userId": "ann", "metadata": {"case": name}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn python_decides_and_whatever_is_no_answer_fails_closed() {
    for database in Database::each() {
        // Long enough for workers to start on a machine that does much else.
        let app = TestApp::builder().database(database).setting("decision_timeout_ms", 20_000).start();
        let yes = app.add("yes", "return {'allowed': True}").await;
        let no = app.add("no", "return {'allowed': False, 'reason': 'because'}").await;
        let who = "context = input_data['context']\nsame = (input_data['action'], input_data['resource'], \
                   input_data['type']) == ('a', 'r', 't')\nreturn {'allowed': same and context['userId'] == 'ann' and \
                   context['ipAddress'] == '127.0.0.1'}";
        let who = app.add("who", who).await;
        let raises = app.add("raises", "raise ValueError('out of order')").await;
        let text = app.add("text", "return {'allowed': 'false'}").await;
        let number = app.add("number", "return {'allowed': 1}").await;
        let nothing = app.add("nothing", "return None").await;
        for (name, uri) in [
            ("yes", yes.as_str()),
            ("no", &no),
            ("who", &who),
            ("raises", &raises),
            ("text", &text),
            ("number", &number),
            ("nothing", &nothing),
            ("missing", "nobody:1.0-test"),
        ] {
            for effect in ["allow", "deny"] {
                let policy = asks(name, effect, uri);
                let mut policy = policy.clone();
                policy["name"] = json!(format!("{name}-{effect}"));
                policy["type"] = json!(if effect == "allow" { "t" } else { "u" });
                let stored = app.add_decision(policy).await;
                assert_eq!(stored["warnings"].is_array(), name == "missing", "{stored}");
            }
        }
        app.add_decision(decision_policy("otherwise", "allow", json!({"type": "u"}))).await;
        for (name, allow_applies, deny_applies, why) in [
            ("yes", true, true, ""),
            ("no", false, false, ""),
            ("who", true, false, ""),
            ("raises", false, true, "out of order"),
            ("text", false, true, "its `allowed` is the text `false`; it must be true or false"),
            ("number", false, true, "its `allowed` is `1`; it must be true or false"),
            ("nothing", false, true, "its result has no `allowed`"),
            ("missing", false, true, "there is no policy `nobody:1.0-test`"),
        ] {
            let decision = app.decide(&case(name)).await;
            assert_eq!(decision["allowed"], allow_applies, "{name}: {decision}");
            assert_eq!(decision["errors"].is_array(), !why.is_empty(), "{name}: {decision}");
            assert!(decision.to_string().contains(why), "{name}: {decision}");
            let mut request = case(name);
            request["type"] = json!("u");
            let decision = app.decide(&request).await;
            assert_eq!(decision["allowed"], !deny_applies, "{name}: {decision}");
        }
        assert!(!app.decide(&case("raises")).await.to_string().contains("/tmp"), "no paths of the server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_policy_is_not_waited_for_and_several_are_asked_at_once() {
    let app = TestApp::builder().setting("decision_timeout_ms", 1500).start();
    let slow = app.add("slow", "import time\ntime.sleep(60)\nreturn {'allowed': True}").await;
    let slower = app.add("slower", "import time\ntime.sleep(61)\nreturn {'allowed': True}").await;
    app.add_decision(decision_policy("one", "allow", json!({"conditions": {"policyRuleUri": slow}}))).await;
    app.add_decision(decision_policy("two", "allow", json!({"conditions": {"policyRuleUri": slower}}))).await;
    let began = Instant::now();
    let decision = app.decide(&ask(json!({}))).await;
    assert!(began.elapsed().as_secs() < 30, "neither was waited for");
    assert_eq!((&decision["allowed"], decision["errors"].as_array().unwrap().len()), (&json!(false), 2));
    let message = decision["errors"][0]["message"].as_str().unwrap();
    assert_eq!(message, "`slow:1.0-test` gave no answer: it took longer than 1500 ms");
    app.add_decision(decision_policy(
        "deny",
        "deny",
        json!({"type": "*", "conditions": {"policyRuleUri": slow}}),
    ))
    .await;
    app.add_decision(decision_policy("plain", "allow", json!({}))).await;
    assert_eq!(
        app.decide(&ask(json!({}))).await["reason"].as_str().unwrap().split(" (").next(),
        Some("denied by policy `deny`")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_where_another_condition_decides() {
    let app = TestApp::start();
    let conditions = json!({"role": "ops", "policyRuleUri": "nobody:1.0-test"});
    app.add_decision(decision_policy("ops", "deny", json!({"conditions": conditions}))).await;
    app.add_decision(decision_policy("all", "allow", json!({}))).await;
    let decision = app.decide(&ask(json!({"role": "dev"}))).await;
    assert_eq!((&decision["allowed"], &decision["errors"]), (&json!(true), &Value::Null));
    let decision = app.decide(&ask(json!({"role": "ops"}))).await;
    assert_eq!(
        (&decision["allowed"], &decision["errors"][0]["field"]),
        (&json!(false), &json!("policyRuleUri"))
    );
}
