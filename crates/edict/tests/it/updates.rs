//! Update operators, moves, optimistic locking and many writers at once.

use crate::support::{Database, TestApp, policy, policy_source, reply};
use futures::future::join_all;
use serde_json::{Value, json};

async fn put(app: &TestApp, uri: &str, update: Value) -> (u16, Value) {
    app.json("PUT", &format!("/policy/{uri}"), &update).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operator_works() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut record = policy("ops", &policy_source("return parameters"));
        record["metadata"] = json!({"n": 5, "low": 3, "high": 3, "list": [1, 2, 3, 2], "old": 1, "gone": 1});
        app.register(&record).await;
        let update = json!({
            "$set": {"metadata.deep.er": {"a": [true]}, "metadata.list.0": 9},
            "$unset": {"metadata.gone": ""},
            "$inc": {"metadata.n": 2, "metadata.fresh": 1},
            "$min": {"metadata.low": 1}, "$max": {"metadata.high": 7},
            "$rename": {"metadata.old": "metadata.new"},
            "$push": {"metadata.pushed": {"$each": [1, 2]}},
            "$addToSet": {"metadata.set": "x"}
        });
        let (status, reply) = put(&app, "ops:1.0-test", update).await;
        assert_eq!(status, 200, "{reply}");
        let expected = json!({
            "n": 7, "fresh": 1, "low": 1, "high": 7, "list": [9, 2, 3, 2], "new": 1,
            "deep": {"er": {"a": [true]}}, "pushed": [1, 2], "set": ["x"]
        });
        assert_eq!(reply["data"]["metadata"], expected);
        let update = json!({
            "$mul": {"metadata.n": 3}, "$pull": {"metadata.list": 2}, "$pop": {"metadata.pushed": 1},
            "$addToSet": {"metadata.set": {"$each": ["x", "y"]}}
        });
        let metadata = put(&app, "ops:1.0-test", update).await.1["data"]["metadata"].clone();
        let got = [&metadata["n"], &metadata["list"], &metadata["pushed"], &metadata["set"]];
        assert_eq!(got, [&json!(21), &json!([9, 3]), &json!([1]), &json!(["x", "y"])]);
        assert_eq!(app.get("/policy/ops:1.0-test").await.1["data"]["metadata"], metadata);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_update_may_not_do_is_refused_and_changes_nothing() {
    let app = TestApp::start();
    app.register(&policy("firm", &policy_source("return 1"))).await;
    let before = app.get("/policy/firm:1.0-test").await.1;
    let cases = [
        (json!({"$set": {"revision": 9}}), "invalid_update", "`revision`"),
        (json!({"$set": {"policy_rule_uri": "x:1-1"}}), "invalid_update", "`policy_rule_uri`"),
        (json!({"$unset": {"created_at": ""}}), "invalid_update", "`created_at`"),
        (json!({"$rename": {"description": "code_digest"}}), "invalid_update", "`code_digest`"),
        (json!({"$set": {"description": "a"}, "name": "b"}), "invalid_update", "name"),
        (json!({"$explode": {"a": 1}}), "invalid_update", "`$explode`"),
        (json!({"$inc": {"description": 1}}), "invalid_update", "description"),
        (json!({"$set": {"desciption": "a"}}), "unknown_field", "`description`"),
        (json!({"$set": {"policy_parameters": 3}}), "invalid_field", "policy_parameters"),
        (json!({"$unset": {"name": ""}}), "invalid_field", "name"),
        (json!({"$set": {"name": "a/b"}}), "invalid_name", "`a/b`"),
        (json!({"$set": {"a": 1, "a.b": 2}}), "invalid_update", "a"),
        (json!([]), "invalid_", "object"),
        (json!({}), "invalid_field", ""),
    ];
    for (update, code, named) in cases {
        let (status, reply) = put(&app, "firm:1.0-test", update.clone()).await;
        assert_eq!(status, 400, "{update}: {reply}");
        assert!(reply["error"]["code"].as_str().unwrap().starts_with(code), "{update}: {reply}");
        assert!(reply["message"].as_str().unwrap().contains(named), "{update}: {reply}");
    }
    let (status, reply) =
        put(&app, "firm:1.0-test", json!({"$set": {"policy_input_schema": {"a": {"type": "strin"}}}})).await;
    assert_eq!((status, &reply["error"]["code"]), (422, &json!("invalid_schema")));
    assert_eq!(app.get("/policy/firm:1.0-test").await.1, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_moves_the_record_with_all_that_belongs_to_it() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let source = "class AIOSv1PolicyRule:\n    def __init__(self, rule_id, settings, parameters):\n        \
                      self.rule_id, self.parameters = rule_id, parameters\n    \
                      def eval(self, parameters, input_data, context):\n        \
                      return [self.rule_id, context.get('seen'), parameters.get('limit')]\n    \
                      def management(self, action, data):\n        \
                      self.parameters['limit'] = data['limit']\n        return 'ok'\n";
        app.register(&policy("mover", source)).await;
        app.register(&policy("other", source)).await;
        let set = json!({"op": "set", "key": "seen", "value": 7});
        app.json("POST", "/policy/mover:1.0-test/context", &set).await;
        let manage = json!({"policy_rule_uri": "mover:1.0-test", "action": "limit", "data": {"limit": 3}});
        let (status, reply) = app.json("POST", "/executor/local/execute_mgmt_command", &manage).await;
        assert_eq!(status, 200, "{reply}");

        let (status, reply) = put(&app, "mover:1.0-test", json!({"$set": {"name": "other"}})).await;
        assert_eq!((status, &reply["error"]["code"]), (409, &json!("policy_exists")));
        let (status, reply) = put(&app, "mover:1.0-test", json!({"$set": {"version": "2.0"}})).await;
        assert_eq!((status, &reply["moved_to"]), (200, &json!("mover:2.0-test")), "{reply}");
        assert_eq!(reply["data"]["policy_rule_uri"], "mover:2.0-test");
        assert_eq!(app.get("/policy/mover:1.0-test").await.0, 404);
        assert_eq!(app.run("mover:1.0-test", json!({})).await.0, 404);
        assert_eq!(app.run("mover:2.0-test", json!({})).await.1["data"], json!(["mover:2.0-test", 7, 3]));

        // Who comes after at the old address starts without a past.
        app.register(&policy("mover", source)).await;
        assert_eq!(
            app.run("mover:1.0-test", json!({})).await.1["data"],
            json!(["mover:1.0-test", null, null])
        );
        // Nor does a record leave one behind when it is removed.
        app.send("DELETE", "/policy/mover:2.0-test", "").await;
        let mut again = policy("mover", source);
        again["version"] = json!("2.0");
        app.register(&again).await;
        assert_eq!(
            app.run("mover:2.0-test", json!({})).await.1["data"],
            json!(["mover:2.0-test", null, null])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_keeps_from_overwriting_what_others_changed() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        app.register(&policy("locked", &policy_source("return 1"))).await;
        let path = "/policy/locked:1.0-test";
        let send = |method: &'static str, revision: &'static str| {
            let update = json!({"$set": {"description": revision}});
            reply(app.request(method, path).header("if-match", revision).json(&update))
        };
        let first = send("PUT", "1").await;
        assert_eq!((first.status, first.header("etag")), (200, "\"2\""));
        let stale = send("PUT", "1").await;
        assert_eq!((stale.status, &stale.json["error"]["code"]), (412, &json!("revision_conflict")));
        assert_eq!(send("PUT", "\"2\"").await.status, 200);
        assert_eq!(send("PUT", "two").await.json["error"]["code"], "invalid_parameter");
        assert_eq!(send("DELETE", "2").await.status, 412);
        assert_eq!(app.get(path).await.1["data"]["description"], "\"2\"");
        assert_eq!(send("DELETE", "3").await.status, 200);
        assert_eq!(send("PUT", "3").await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_updates_at_once_all_count() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut record = policy("counted", &policy_source("return 1"));
        record["metadata"] = json!({"count": 0});
        app.register(&record).await;
        app.json("POST", "/executor", &json!({"executor_id": "counted"})).await;
        let updates = (0..50).map(|n| {
            let (policy, executor) = (
                json!({"$inc": {"metadata.count": 1}, "$push": {"metadata.who": n}}),
                json!({"$inc": {"metadata.count": 1}, "$push": {"metadata.who": n}}),
            );
            let app = &app;
            async move {
                for (path, update) in [("/policy/counted:1.0-test", policy), ("/executor/counted", executor)]
                {
                    let (status, reply) = app.json("PUT", path, &update).await;
                    assert_eq!(status, 200, "{reply}");
                }
            }
        });
        join_all(updates).await;
        for (path, field) in
            [("/policy/counted:1.0-test", "metadata"), ("/executor/counted", "executor_metadata")]
        {
            let record = app.get(path).await.1["data"].clone();
            assert_eq!((&record[field]["count"], &record["revision"]), (&json!(50), &json!(51)), "{record}");
            let mut who: Vec<u64> =
                record[field]["who"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            who.sort_unstable();
            assert_eq!(who, (0..50).collect::<Vec<_>>());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_register_the_same_policy_one_succeeds() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let record = policy("race", &policy_source("return 1"));
        let tries = join_all((0..20).map(|_| app.json("POST", "/policy", &record))).await;
        let mut statuses: Vec<u16> = tries.iter().map(|(status, _)| *status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [&[200][..], &[409; 19]].concat());
    }
}
