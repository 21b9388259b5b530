//! The log of decisions: everything is in it, and found.

use crate::support::{Asking, Database, TestApp, asked_by, reply};
use serde_json::{Value, json};

async fn allow(app: &TestApp, name: &str, action: &str) {
    let policy =
        json!({"name": name, "type": "*", "effect": "allow", "actions": [action], "resources": ["*"]});
    let added = reply(app.engine_request("POST", "/api/v1/policy").json(&policy)).await;
    assert!((200..300).contains(&added.status), "{}", added.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_in_the_log_as_soon_as_it_is_received() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let asking = Asking::start(&app);
        asking.until(1500).await;
        let received = asking.stop().await;
        assert_eq!(app.logged_ids().await, received);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_tells_who_asked_what_and_why_it_was_decided() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        allow(&app, "restarts", "restart_*").await;
        let context = json!({"userId": "ann", "role": "service", "roles": ["ops"], "metadata": {"n": 1.50, "zero": "\0"}});
        let request =
            json!({"action": "restart_pod", "resource": "pod:api-1", "type": "t", "context": context});
        let pretty = serde_json::to_string_pretty(&request).unwrap();
        let request = app
            .engine_request("POST", "/api/v1/policy/evaluate")
            .header("user-agent", "tests")
            .header("x-request-id", "r-17")
            .body(pretty);
        let decision = reply(request).await.json;
        let id = decision["decisionId"].as_str().unwrap();
        let mut entry =
            reply(app.engine_request("GET", &format!("/api/v1/policy/audit/logs/{id}"))).await.json;
        assert_eq!(app.logged(&[]).await.json["logs"], json!([entry]));
        let (made, took) = (entry["createdAt"].take(), entry["durationMs"].take());
        assert!(made.as_str().unwrap().ends_with('Z') && took.as_f64().unwrap() > 0.0, "{made} {took}");
        let expected = json!({
            "decisionId": id, "createdAt": null, "action": "restart_pod", "resource": "pod:api-1", "type": "t",
            "userId": "ann", "role": "service", "roles": ["ops"], "ipAddress": "127.0.0.1", "userAgent": "tests",
            // The databases hold no NUL.
            "context": {"userId": "ann", "role": "service", "roles": ["ops"], "metadata": {"n": 1.5, "zero": "\u{fffd}"}},
            "allowed": true, "reason": decision["reason"], "appliedPolicies": ["restarts"], "durationMs": null,
            "requestId": "r-17",
        });
        assert_eq!(entry, expected);
        // Written without a context, and refused for want of an address.
        let deny = json!({
            "name": "inside", "type": "*", "effect": "deny", "actions": ["*"], "resources": ["*"],
            "conditions": {"ipRange": "10.0.0.0/8"},
        });
        assert!(reply(app.engine_request("POST", "/api/v1/policy").json(&deny)).await.status < 300);
        let odd = json!({"action": "a", "resource": "r", "type": "t", "context": {"ipAddress": "nowhere"}});
        let decision = app.decide(&odd).await;
        assert_eq!((&decision["allowed"], decision["errors"].as_array().unwrap().len()), (&json!(false), 1));
        let id = decision["decisionId"].as_str().unwrap();
        let entry = reply(app.engine_request("GET", &format!("/api/v1/policy/audit/logs/{id}"))).await.json;
        assert_eq!((&entry["errors"], &entry["ipAddress"]), (&decision["errors"], &json!("nowhere")));
        assert_eq!((&entry["userId"], &entry["role"]), (&Value::Null, &Value::Null));
        let bare = app.decide(&json!({"action": "a", "resource": "r", "type": "t"})).await;
        let id = bare["decisionId"].as_str().unwrap();
        let entry = reply(app.engine_request("GET", &format!("/api/v1/policy/audit/logs/{id}"))).await.json;
        assert_eq!(entry["context"], json!({}));
    }
}

/// Which entries a filter is to find.
type Chosen<'a> = &'a dyn Fn(&Value) -> bool;

/// Each filter alone and all together, against the same choice made from all entries.
#[tokio::test(flavor = "multi_thread")]
async fn filters_find_what_they_say() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        allow(&app, "restarts", "restart_*").await;
        allow(&app, "ann's \"own\"", "restart_pod").await;
        for number in 0..60 {
            let action = ["restart_pod", "restart_deployment", "drain_node"][number % 3];
            let user = ["ann", "bob", "c\0d"][number / 3 % 3];
            let kind = ["t", "u"][number % 2];
            let request = json!({
                "action": action, "resource": format!("pod:api-{}", number % 4), "type": kind,
                "context": {"userId": user},
            });
            app.decide(&request).await;
        }
        let all = app.logged(&[]).await.json["logs"].as_array().unwrap().clone();
        assert_eq!(all.len(), 60);
        let (since, until) = (all[44]["createdAt"].as_str().unwrap(), all[15]["createdAt"].as_str().unwrap());
        let filters: [(&str, &str, Chosen<'_>); 9] = [
            ("userId", "ann", &|entry| entry["userId"] == "ann"),
            ("userId", "c\0d", &|entry| entry["userId"] == "c\u{fffd}d"),
            ("action", "restart_pod", &|entry| entry["action"] == "restart_pod"),
            ("resource", "pod:api-2", &|entry| entry["resource"] == "pod:api-2"),
            ("type", "u", &|entry| entry["type"] == "u"),
            ("allowed", "false", &|entry| entry["allowed"] == false),
            ("policy", "ann's \"own\"", &|entry| entry["appliedPolicies"].as_array().unwrap().len() == 2),
            ("since", since, &|entry| entry["createdAt"].as_str().unwrap() >= since),
            ("until", until, &|entry| entry["createdAt"].as_str().unwrap() < until),
        ];
        let expected = |chosen: Chosen<'_>| {
            Value::from(all.iter().filter(|entry| chosen(entry)).cloned().collect::<Vec<_>>())
        };
        for (name, value, chosen) in filters {
            let found = app.logged(&[(name, value)]).await.json["logs"].take();
            assert_eq!(found, expected(chosen), "{name}={value}");
            assert_ne!(found, json!([]), "{name}={value}");
        }
        let together = [("userId", "bob"), ("allowed", "true"), ("since", since), ("policy", "restarts")];
        let chosen = |entry: &Value| {
            entry["userId"] == "bob"
                && entry["allowed"] == true
                && entry["createdAt"].as_str().unwrap() >= since
        };
        assert_eq!(app.logged(&together).await.json["logs"].take(), expected(&chosen));
        assert_eq!(app.logged(&[("userId", "nobody")]).await.json, json!({"logs": [], "hasMore": false}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_makes_no_sense_is_refused() {
    let app = TestApp::start();
    let refused = [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "many"),
        ("since", "yesterday"),
        ("until", "2026-12-24"),
        ("after", "17"),
        ("allowed", "perhaps"),
        ("user", "ann"),
    ];
    for (name, value) in refused {
        let reply = app.logged(&[(name, value)]).await;
        assert_eq!(
            (reply.status, &reply.json["error"]["code"]),
            (400, &json!("invalid_parameter")),
            "{name}={value}"
        );
    }
    for id in ["0199aaaa-0000-7000-8000-000000000000", "17", "%00"] {
        let reply = reply(app.engine_request("GET", &format!("/api/v1/policy/audit/logs/{id}"))).await;
        let expected = if id == "%00" { (400, "invalid_parameter") } else { (404, "decision_not_found") };
        assert_eq!((reply.status, reply.json["error"]["code"].as_str().unwrap()), expected, "{id}");
    }
}

/// Nobody fills the disk with a few large requests.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_huge_context_what_fits_is_recorded() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut request = asked_by("ann");
        request["context"]["metadata"] = json!({"text": "x".repeat(7 << 20)});
        request["context"]["ticket"] = json!("T-1");
        for _ in 0..3 {
            app.decide(&request).await;
        }
        let entry = app.logged(&[("limit", "1")]).await.json["logs"][0].take();
        assert_eq!(entry["context"], json!({"userId": "ann", "ticket": "T-1"}));
        assert_eq!(entry["contextCut"]["omitted"], json!(["metadata"]));
        assert_eq!(entry["contextCut"]["bytes"], request["context"].to_string().len());
        assert_eq!(entry["userId"], "ann");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_entries_are_removed_and_young_ones_stay() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).setting("decision_log_retention_days", 2).start();
        let kept = app.decide(&asked_by("ann")).await["decisionId"].as_str().unwrap().to_owned();
        assert_eq!(app.logged_ids().await.len(), 1);
        // Two and a half thousand of 1970, more than one statement removes.
        app.sql(
            "INSERT INTO decision_log (id, created_at, action, resource, type, allowed, more) \
             WITH RECURSIVE n(n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM n WHERE n < 3500) \
             SELECT '00000000-0000-7000-8000-00000000' || n, 1, 'a', 'r', 't', 1 = 0, '{}' FROM n \
             RETURNING created_at",
        )
        .await;
        tokio::task::block_in_place(|| app.stop());
        tokio::task::block_in_place(|| app.restart());
        let end = std::time::Instant::now() + crate::support::PATIENCE;
        while app.sql("SELECT count(*) FROM decision_log").await != 1 {
            assert!(std::time::Instant::now() < end, "old entries are still there");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(app.logged_ids().await.contains(&kept));
    }
}
