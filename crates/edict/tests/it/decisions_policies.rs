//! Decision policies through the API: records, changes, many at once, and how changes come into force.

use crate::support::{Database, TestApp, ask, decision_policy, refusal, reply};
use edict_client::records::{DecisionPolicy, DecisionRequest, Effect, Object, PolicySource};
use edict_client::{Client, Page};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_created_read_changed_and_removed() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let sent = json!({
            "name": "nights", "description": "no deploys at night", "type": "deploy", "effect": "deny", "priority": 7,
            "conditions": {"timeRange": {"start": "22:00", "end": "06:00", "timeZone": "Europe/Berlin"}},
            "actions": ["deploy_*"], "resources": ["*"], "isActive": false,
        });
        let created = app.add_decision(sent.clone()).await;
        for (field, value) in sent.as_object().unwrap() {
            assert_eq!(&created[field], value, "{field}");
        }
        assert_eq!((&created["revision"], &created["source"]), (&json!(1), &json!("api")));
        assert!(created["createdAt"] == created["updatedAt"] && created["createdAt"].is_string());
        let id = created["id"].as_str().unwrap();
        let by_id = app.engine_raw("GET", &format!("/{id}"), "").await;
        assert_eq!((by_id.status, &by_id.json, by_id.header("etag")), (200, &created, "\"1\""));
        assert_eq!(app.engine_get("/nights").await.1, created);

        let changed = app
            .engine("PATCH", "/nights", &json!({"description": null, "isActive": true, "priority": 8}))
            .await;
        assert_eq!((changed.0, &changed.1["revision"]), (200, &json!(2)), "{}", changed.1);
        assert_eq!(
            (&changed.1["description"], &changed.1["isActive"], &changed.1["priority"]),
            (&json!(""), &json!(true), &json!(8))
        );
        assert_eq!((&changed.1["id"], &changed.1["createdAt"]), (&created["id"], &created["createdAt"]));
        assert_eq!(changed.1["conditions"], sent["conditions"]);

        let matched = |revision: &'static str, method: &'static str, body: Value| {
            let request = app.engine_request(method, &format!("/api/v1/policy/{id}"));
            reply(request.header("if-match", revision).body(body.to_string()))
        };
        assert_eq!(matched("1", "PATCH", json!({"priority": 9})).await.status, 412);
        assert_eq!(matched("1", "DELETE", Value::Null).await.status, 412);
        assert_eq!(matched("\"2\"", "PATCH", json!({"name": "days"})).await.json["name"], "days");
        assert_eq!(refusal(&app.engine_get("/nights").await), (404, "decision_policy_not_found"));
        // What was read may be sent back.
        let whole = app.engine_get("/days").await.1;
        assert_eq!(app.engine("PATCH", "/days", &whole).await.1["revision"], 4);
        assert_eq!(matched("4", "DELETE", Value::Null).await.status, 200);
        for (method, body) in [("GET", ""), ("PATCH", "{}"), ("DELETE", "")] {
            assert_eq!(app.engine_raw(method, &format!("/{id}"), body).await.status, 404, "{method}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        app.add_decision(decision_policy("one", "allow", json!({}))).await;
        app.add_decision(decision_policy("two", "allow", json!({}))).await;
        let again = decision_policy("one", "deny", json!({}));
        assert_eq!(refusal(&app.engine("POST", "", &again).await), (409, "decision_policy_exists"));
        assert_eq!(
            refusal(&app.engine("PATCH", "/two", &json!({"name": "one"})).await),
            (409, "decision_policy_exists")
        );
        assert_eq!(
            refusal(&app.engine("POST", "/import", &json!({"policies": [again]})).await),
            (409, "decision_policy_exists")
        );
        assert_eq!(app.decide(&ask(json!({}))).await["allowed"], true, "nothing of it came into force");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_of_a_policy_are_told_at_once() {
    let app = TestApp::start();
    let bad = json!({
        "name": "", "type": "t", "effect": "allow", "actions": [], "resources": [""],
        "conditions": {"timeRange": {"start": "25:00"}, "ipRange": "10.0.0.0/33", "ip_range": "x", "metadata": {"a": {"$near": 1}}},
    });
    let refused = app.engine("POST", "", &bad).await;
    assert_eq!(refusal(&refused), (422, "invalid_decision_policy"));
    let faults = refused.1["error"]["details"]["faults"].as_array().unwrap();
    let fields: BTreeSet<&str> = faults.iter().map(|fault| fault["field"].as_str().unwrap()).collect();
    let expected = [
        "actions",
        "conditions.ipRange",
        "conditions.ip_range",
        "conditions.metadata.a",
        "conditions.timeRange.start",
        "name",
        "resources.0",
    ];
    assert_eq!(fields, BTreeSet::from(expected));
    let refused = app.engine("POST", "", &json!({"name": "x", "effect": "maybe", "priority": 1001})).await;
    let fields: BTreeSet<&str> = refused.1["error"]["details"]["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, BTreeSet::from(["actions", "effect", "priority", "resources", "type"]));
    let unknown = app.engine("POST", "", &decision_policy("x", "deny", json!({"condition": {}}))).await;
    assert_eq!(refusal(&unknown), (400, "unknown_field"));
    assert!(unknown.1["message"].as_str().unwrap().contains("did you mean `conditions`?"));
    let nul = decision_policy("n\0l", "deny", json!({}));
    assert_eq!(refusal(&app.engine("POST", "", &nul).await), (400, "invalid_field"));
    assert_eq!(app.engine("PATCH", "/self-healing-restart-pod", &json!({"effect": null})).await.0, 422);
    assert_eq!(app.engine("PATCH", "/self-healing-restart-pod", &json!({"efect": "deny"})).await.0, 400);
    assert_eq!(app.engine("PATCH", "/self-healing-restart-pod", &json!([])).await.0, 400);
    assert_eq!(app.decision_names().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_found() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("decisions_starter", false).start();
        let policies: Vec<Value> = (0..25)
            .map(|number| {
                let effect = if number % 5 == 0 { "deny" } else { "allow" };
                decision_policy(
                    &format!("p{number:02}"),
                    effect,
                    json!({"isActive": number != 3, "priority": number}),
                )
            })
            .collect();
        let (status, done) = app.engine("POST", "/import", &json!({"policies": policies})).await;
        assert_eq!((status, done), (200, json!({"created": 25, "replaced": 0})));
        let names = async |path: &str| {
            let (status, found) = app.engine_get(path).await;
            assert_eq!(status, 200, "{found}");
            let found_names: Vec<String> = found["policies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|policy| policy["name"].as_str().unwrap().to_owned())
                .collect();
            (found_names, found["hasMore"].as_bool().unwrap())
        };
        assert_eq!(names("?effect=deny").await.0, ["p00", "p05", "p10", "p15", "p20"]);
        assert_eq!(names("?isActive=false").await.0, ["p03"]);
        assert_eq!(names("?name=p07").await.0, ["p07"]);
        assert_eq!(names("?type=u").await.0, [""; 0]);
        assert_eq!(names("?limit=2&skip=23").await, (vec!["p23".to_owned(), "p24".to_owned()], false));
        assert_eq!(names("?limit=2&sort=-priority").await, (vec!["p24".to_owned(), "p23".to_owned()], true));
        assert_eq!(app.engine_get("?limit=0").await.0, 400);
        assert_eq!(app.engine_get("?efect=deny").await.0, 400);
        let query = json!({"priority": {"$gt": 20}, "effect": "allow"});
        let (_, found) = app.engine("POST", "/query?sort=name&fields=name", &query).await;
        let expected: Vec<Value> = (21..25).map(|number| json!({"name": format!("p{number}")})).collect();
        assert_eq!(found["policies"], json!(expected));
        assert_eq!(
            refusal(&app.engine("POST", "/query", &json!({"a": {"$near": 1}})).await),
            (400, "invalid_query")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_all_or_nothing() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("decisions_starter", false).start();
        let kept = app.add_decision(decision_policy("kept", "allow", json!({}))).await;
        let mixed = json!({"policies": [
            decision_policy("good", "allow", json!({})), decision_policy("bad", "allow", json!({"priority": -1})),
            decision_policy("good", "deny", json!({})),
        ]});
        let refused = app.engine("POST", "/import?replace=true", &mixed).await;
        assert_eq!(refusal(&refused), (422, "invalid_decision_policy"));
        let message = refused.1["message"].as_str().unwrap();
        assert!(
            message.starts_with("`policies.1`: `priority`") && message.ends_with("1 others are faulty, too)"),
            "{message}"
        );
        assert_eq!(app.decision_names().await, ["kept"]);
        let replacing = json!({"policies": [
            decision_policy("kept", "deny", json!({"conditions": {"policyRuleUri": "nobody:1-x"}})),
            decision_policy("new", "allow", json!({})),
        ]});
        let (status, done) = app.engine("POST", "/import?replace=true", &replacing).await;
        assert_eq!((status, &done["created"], &done["replaced"]), (200, &json!(1), &json!(1)), "{done}");
        assert!(done["warnings"][0].as_str().unwrap().contains("`nobody:1-x`"));
        let now = app.engine_get("/kept").await.1;
        assert_eq!(
            (&now["id"], &now["createdAt"], &now["revision"]),
            (&kept["id"], &kept["createdAt"], &json!(2))
        );
        assert_eq!(app.decide(&ask(json!({}))).await["appliedPolicies"], json!(["kept", "new"]));
    }
}

/// Two sets that are consistent in themselves: in one both policies are about green, in the other about blue. Who saw half
/// a change would see one of each.
#[tokio::test(flavor = "multi_thread")]
async fn no_decision_sees_half_a_change() {
    for database in Database::each() {
        let app = Arc::new(TestApp::builder().database(database).setting("decisions_starter", false).start());
        let set = |colour: &str| {
            let text = format!("all {colour}");
            json!({"policies": [
                decision_policy("one", "allow", json!({"description": text, "conditions": {"metadata": {"colour": colour}}})),
                decision_policy("other", "deny", json!({"description": text, "conditions": {"metadata": {"colour": {"$ne": colour}}}})),
            ]})
        };
        assert_eq!(app.engine("POST", "/import", &set("green")).await.0, 200);
        let (stop, decided) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (app, stop, decided) = (Arc::clone(&app), Arc::clone(&stop), Arc::clone(&decided));
                tokio::spawn(async move {
                    let mut seen = BTreeSet::new();
                    let request = |colour: &str| ask(json!({"metadata": {"colour": colour}}));
                    let batch = json!({"requests": [request("green"), request("blue")]});
                    while !stop.load(Ordering::SeqCst) {
                        let (_, answer) = app.engine("POST", "/evaluate/batch", &batch).await;
                        let side = |at: usize| {
                            let decision = &answer["decisions"][at];
                            format!("{} {}", decision["appliedPolicies"], decision["reason"])
                        };
                        seen.insert((side(0), side(1)));
                        decided.fetch_add(2, Ordering::SeqCst);
                    }
                    seen
                })
            })
            .collect();
        for round in 0..60 {
            let colour = if round % 2 == 0 { "blue" } else { "green" };
            assert_eq!(app.engine("POST", "/import?replace=true", &set(colour)).await.0, 200);
            let here = app.decide(&ask(json!({"metadata": {"colour": colour}}))).await;
            assert_eq!(
                here["reason"],
                format!("allowed by policy `one`: all {colour}"),
                "in force before the reply"
            );
        }
        stop.store(true, Ordering::SeqCst);
        let mut seen = BTreeSet::new();
        for reader in readers {
            seen.extend(reader.await.unwrap());
        }
        let allow = |colour: &str| format!("[\"one\"] \"allowed by policy `one`: all {colour}\"");
        let deny = |colour: &str| format!("[\"other\"] \"denied by policy `other`: all {colour}\"");
        let whole = BTreeSet::from([(allow("green"), deny("green")), (deny("blue"), allow("blue"))]);
        assert_eq!(seen, whole, "after {} decisions", decided.load(Ordering::SeqCst));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_one_database_follow_each_other() {
    let Some(database) = Database::postgres() else { return };
    let one = TestApp::builder().database(database.clone()).start();
    let other = TestApp::builder().database(database).start();
    let sees = |allowed: bool| {
        let began = std::time::Instant::now();
        let other = &other;
        async move {
            while other.decide(&ask(json!({}))).await["allowed"] != allowed {
                assert!(
                    began.elapsed() < std::time::Duration::from_secs(2),
                    "the other server does not follow"
                );
            }
        }
    };
    one.add_decision(decision_policy("may", "allow", json!({}))).await;
    sees(true).await;
    assert_eq!(one.engine("PATCH", "/may", &json!({"effect": "deny"})).await.0, 200);
    sees(false).await;
    assert_eq!(one.engine("PATCH", "/may", &json!({"effect": "allow"})).await.0, 200);
    sees(true).await;
    // Also after the connection on which changes are announced was lost.
    let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert!(one.sql(cut).await >= 2);
    assert_eq!(one.engine("DELETE", "/may", &Value::Null).await.0, 200);
    let gone = async { while other.decide(&ask(json!({}))).await["allowed"] != false {} };
    tokio::time::timeout(crate::support::PATIENCE, gone).await.unwrap();
}

/// Written by another version, or behind the server's back: nothing of it keeps the server from deciding.
#[tokio::test(flavor = "multi_thread")]
async fn stored_policies_that_cannot_be_read_fail_closed() {
    const TIME: &str = r#"INSERT INTO decision_policies (key, doc, revision) VALUES ('k1', '{"id": "k1", "name": "late",
        "type": "t", "effect": "deny", "actions": ["a"], "resources": ["r"],
        "conditions": {"timeRange": {"start": "at dusk"}, "role": "dev"}}', 1) RETURNING CAST(1 AS bigint)"#;
    const ALLOW: &str = r#"INSERT INTO decision_policies (key, doc, revision) VALUES ('k2', '{"id": "k2", "name": "wide",
        "type": "u", "effect": "allow", "actions": ["*"], "resources": ["*"], "conditions": {"ipRange": 7}}', 1) RETURNING CAST(1 AS bigint)"#;
    const SHAPE: &str = r#"INSERT INTO decision_policies (key, doc, revision) VALUES ('k3', '{"id": "k3", "name": "odd",
        "type": "v", "effect": "deny", "actions": {"all": true}, "resources": ["r"], "until": 5}', 1) RETURNING CAST(1 AS bigint)"#;
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        app.add_decision(decision_policy(
            "all",
            "allow",
            json!({"type": "*", "actions": ["*"], "resources": ["*"]}),
        ))
        .await;
        for sql in [TIME, ALLOW, SHAPE] {
            assert_eq!(app.sql(sql).await, 1);
        }
        assert!(app.stop());
        app.restart();
        let decision = app.decide(&ask(json!({"role": "dev"}))).await;
        assert_eq!(
            (&decision["allowed"], &decision["errors"][0]["policy"]),
            (&json!(false), &json!("late")),
            "{decision}"
        );
        assert_eq!(
            app.decide(&ask(json!({"role": "ops"}))).await["allowed"],
            true,
            "what can be read of it rules it out"
        );
        let typed = |kind: &str, action: &str, resource: &str| json!({"action": action, "resource": resource, "type": kind});
        let decision = app.decide(&typed("u", "a", "r")).await;
        assert_eq!(
            (&decision["appliedPolicies"], &decision["errors"][0]["policy"]),
            (&json!(["all"]), &json!("wide"))
        );
        let decision = app.decide(&typed("v", "anything", "r")).await;
        assert_eq!(
            (&decision["allowed"], &decision["appliedPolicies"]),
            (&json!(false), &json!(["all", "odd"])),
            "{decision}"
        );
        assert_eq!(app.decide(&typed("v", "anything", "q")).await["allowed"], true);
        let (_, listed) = app.engine_get("").await;
        let listed = listed["policies"].as_array().unwrap();
        let errors: Vec<&str> = listed
            .iter()
            .filter(|policy| policy["error"].is_string())
            .map(|policy| policy["name"].as_str().unwrap())
            .collect();
        assert_eq!(errors, ["late", "odd", "wide"]);
        let late = app.engine_get("/late").await.1;
        assert!(
            late["error"].as_str().unwrap().contains("`conditions.timeRange.start` is `at dusk`"),
            "{late}"
        );
        assert!(app.log().contains("a stored decision policy cannot be read"));
        let repaired = json!({"conditions": {"role": "dev"}});
        assert_eq!(app.engine("PATCH", "/late", &repaired).await.0, 200);
        let decision = app.decide(&ask(json!({"role": "dev"}))).await;
        assert_eq!((&decision["allowed"], &decision["errors"]), (&json!(false), &Value::Null));
        assert_eq!(app.engine("DELETE", "/odd", &Value::Null).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_policies_are_imported_and_changed() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("decisions_starter", false).start();
        let policies: Vec<Value> = (0..10_000)
            .map(|number| {
                let more = json!({"resources": [format!("ns-{}:pod:*", number / 10)], "conditions": {"role": format!("team-{number}")}});
                decision_policy(&format!("p{number}"), "allow", more)
            })
            .collect();
        let (status, done) = app.engine("POST", "/import", &json!({"policies": policies})).await;
        assert_eq!((status, &done["created"]), (200, &json!(10_000)));
        let request = |number: u32, role: &str| {
            json!({
                "action": "a", "resource": format!("ns-{}:pod:x", number / 10), "type": "t", "context": {"role": role},
            })
        };
        assert_eq!(app.decide(&request(7777, "team-7777")).await["appliedPolicies"], json!(["p7777"]));
        let (status, _) = app.engine("PATCH", "/p7777", &json!({"conditions": {"role": "other"}})).await;
        assert_eq!(status, 200);
        assert_eq!(app.decide(&request(7777, "team-7777")).await["allowed"], false);
        assert_eq!(app.decide(&request(7777, "other")).await["allowed"], true);
        let (_, found) = app.engine_get("?limit=1&skip=9999").await;
        assert_eq!((&found["policies"][0]["name"], &found["hasMore"]), (&json!("p9999"), &json!(false)));
        let log = app.log();
        let took: Vec<&str> = log.lines().filter_map(|line| line.split("milliseconds=").nth(1)).collect();
        eprintln!("milliseconds to put 10,000 policies into force: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_has_every_call() {
    let app = TestApp::start();
    let client = Client::new(&app.listener("engine"), None).unwrap();
    let policy = decision_policy(
        "client",
        "allow",
        json!({"conditions": {"policyRuleUri": "nobody:1-x", "role": "dev"}}),
    );
    let stored = client.create_decision_policy(&policy).await.unwrap();
    assert_eq!((stored.policy.effect, stored.policy.revision, stored.warnings.len()), (Effect::Allow, 1, 1));
    assert_eq!(client.get_decision_policy("client").await.unwrap(), stored.policy);
    let change = json!({"conditions": {"role": "dev"}});
    assert!(client.update_decision_policy("client", &change, Some(7)).await.unwrap_err().is_conflict());
    let stored = client.update_decision_policy(&stored.policy.id, &change, Some(1)).await.unwrap();
    assert!(stored.policy.revision == 2 && stored.warnings.is_empty());
    let request = DecisionRequest {
        action: "a".to_owned(),
        resource: "r".to_owned(),
        kind: "t".to_owned(),
        context: Object::from_iter([("role".to_owned(), json!("dev"))]),
    };
    let decision = client.evaluate(&request).await.unwrap();
    assert!(decision.allowed && decision.applied_policies == ["client"] && decision.errors.is_empty());
    let explained = client.explain(&request).await.unwrap();
    assert_eq!((explained.decision.reason, explained.considered.len()), (decision.reason, 3));
    let batch = client.evaluate_batch(&[request.clone(), request]).await.unwrap();
    assert_eq!((batch.decisions.len(), &batch.decisions[1]["allowed"]), (2, &json!(true)));
    let page = Page { limit: Some(1), ..Page::default() };
    let found =
        client.query_decision_policies::<DecisionPolicy>(&json!({"effect": "allow"}), &page).await.unwrap();
    assert!(
        found.has_more && found.records[0].name == "client" && found.records[0].source == PolicySource::Api
    );
    let done = client.import_decision_policies(&[policy], true).await.unwrap();
    assert_eq!((done.created, done.replaced, done.warnings.len()), (0, 1, 1));
    let folder = client.decision_folder().await.unwrap();
    assert!(!folder.watched && folder.ok && folder.error.is_none());
    client.delete_decision_policy("client").await.unwrap();
    assert!(client.get_decision_policy("client").await.unwrap_err().is_not_found());
}
