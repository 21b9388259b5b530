//! Mongo-style queries over the API, on both databases.

use crate::support::{Database, TestApp, policy, policy_source};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Five policies, and no others, that differ in what the queries below ask for.
async fn start(database: Database) -> TestApp {
    let app = TestApp::builder().database(database).start();
    app.send("DELETE", "/policy/default_allocator:1.0-stable", "").await;
    let source = policy_source("return 1");
    let records = [
        (
            "a",
            json!({"tags": "net,security", "metadata": {"n": 1, "who": [{"k": 1, "v": "x"}, {"k": 2, "v": "y"}], "null": null}}),
        ),
        ("b", json!({"tags": "net", "metadata": {"n": 2, "who": [], "team": "it's \"quoted\" -- 100%_"}})),
        ("c", json!({"tags": "", "metadata": {"n": 3.5, "list": [1, 2, 3]}, "description": "multi\nline"})),
        ("d", json!({"metadata": {"n": "2", "list": [3]}})),
        ("e", json!({"metadata": {"n": [1, 9], "deep": {"er": {"est": true}}}, "type": "other"})),
    ];
    for (name, fields) in records {
        let mut record = policy(name, &source);
        for (field, value) in fields.as_object().unwrap() {
            record[field] = value.clone();
        }
        app.register(&record).await;
    }
    app
}

async fn names(app: &TestApp, filter: &Value, parameters: &str) -> String {
    let (status, reply) = app.json("POST", &format!("/policy/query?{parameters}"), filter).await;
    assert_eq!(status, 200, "{filter}: {reply}");
    reply["data"].as_array().unwrap().iter().map(|record| record["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_mean_what_mongo_means() {
    let cases = [
        (json!({}), "abcde"),
        (json!({"name": "b"}), "b"),
        (json!({"name": {"$ne": "b"}, "metadata.n": {"$exists": true}}), "acde"),
        (json!({"metadata.n": 1}), "ae"),
        (json!({"metadata.n": {"$gt": 1}}), "bce"),
        (json!({"metadata.n": {"$gte": 2, "$lt": 3}}), "be"),
        (json!({"metadata.n": {"$elemMatch": {"$gte": 2, "$lt": 3}}}), ""),
        (json!({"metadata.n": {"$gte": "2"}}), "d"),
        (json!({"metadata.n": {"$in": [2, "2"]}}), "bd"),
        (json!({"metadata.n": {"$nin": [1, 2]}}), "cd"),
        (json!({"metadata.n": {"$type": "string"}}), "d"),
        (json!({"metadata.n": {"$mod": [3, 0]}}), "ce"),
        (json!({"metadata.null": null}), "abcde"),
        (json!({"metadata.null": {"$exists": true}}), "a"),
        (json!({"metadata.list": 3}), "cd"),
        (json!({"metadata.list": {"$all": [1, 2]}}), "c"),
        (json!({"metadata.list": {"$size": 1}}), "d"),
        (json!({"metadata.list.0": 3}), "d"),
        (json!({"metadata.who.v": "y"}), "a"),
        (json!({"metadata.who": {"$elemMatch": {"k": 1, "v": "x"}}}), "a"),
        (json!({"metadata.who": {"$elemMatch": {"k": 1, "v": "y"}}}), ""),
        (json!({"metadata.deep.er.est": true}), "e"),
        (json!({"metadata.deep": {"er": {"est": true}}}), "e"),
        (json!({"$or": [{"name": "a"}, {"type": "other"}]}), "ae"),
        (json!({"$nor": [{"name": "a"}, {"type": "other"}]}), "bcd"),
        (json!({"$and": [{"tags": {"$regex": "net"}}, {"tags": {"$not": {"$regex": "sec"}}}]}), "b"),
        (json!({"tags": {"$regex": "SEC", "$options": "i"}}), "a"),
        (json!({"description": {"$regex": "^line$", "$options": "m"}}), "c"),
        (json!({"metadata.team": {"$regex": "^it's \"quoted\" -- 100%_$"}}), "b"),
        (json!({"metadata.team": "it's \"quoted\" -- 100%_"}), "b"),
    ];
    for database in Database::each() {
        let app = start(database).await;
        for (filter, expected) in &cases {
            assert_eq!(names(&app, filter, "sort=name").await, *expected, "{filter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_sorts_and_projections() {
    for database in Database::each() {
        let app = start(database).await;
        assert_eq!(names(&app, &json!({}), "sort=-name").await, "edcba");
        // `e` is of the type `other`, which comes before `python_class_v1`.
        assert_eq!(names(&app, &json!({}), "sort=type,-name&limit=2&skip=1").await, "dc");
        let (_, page) = app.json("POST", "/policy/query?sort=name&limit=2&skip=2", &json!({})).await;
        assert_eq!((&page["data"][0]["name"], &page["has_more"]), (&json!("c"), &json!(true)));
        let (_, page) = app.json("POST", "/policy/query?sort=name&limit=2&skip=3", &json!({})).await;
        assert_eq!((&page["data"][1]["name"], &page["has_more"]), (&json!("e"), &json!(false)));
        let fields = "/policy/query?sort=name&limit=1&fields=name,metadata.who.v";
        let (_, page) = app.json("POST", fields, &json!({})).await;
        assert_eq!(page["data"][0], json!({"name": "a", "metadata": {"who": [{"v": "x"}, {"v": "y"}]}}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_named() {
    for database in Database::each() {
        let app = start(database).await;
        let cases = [
            (json!({"name": {"$rgex": "a"}}), "unknown_operator", "`$rgex`"),
            (json!({"$where": "1"}), "unknown_operator", "`$where`"),
            (json!({"name": {"$and": [{}]}}), "misplaced_operator", "`$and`"),
            (json!({"$gt": 3}), "misplaced_operator", "`$gt`"),
            (json!({"name": {"$in": "a"}}), "bad_operand", "`$in`"),
            (json!({"name": {"$regex": "("}}), "bad_regex", ""),
            (json!({"name": {"$regex": "(?=a)"}}), "bad_regex", ""),
            (json!({"a..b": 1}), "bad_path", "`a..b`"),
            (json!([]), "bad_operand", ""),
            (json!({"$or": []}), "bad_operand", "`$or`"),
        ];
        for (filter, reason, named) in cases {
            let (status, reply) = app.json("POST", "/policy/query", &filter).await;
            assert_eq!(
                (status, &reply["error"]["code"]),
                (400, &json!("invalid_query")),
                "{filter}: {reply}"
            );
            assert_eq!(reply["error"]["details"]["reason"], reason, "{filter}: {reply}");
            assert!(reply["message"].as_str().unwrap().contains(named), "{filter}: {reply}");
        }
        for (parameters, named) in [
            ("limit=0", "`limit`"),
            ("limit=10001", "`limit`"),
            ("limit=x", "limit"),
            ("skip=-1", "skip"),
            ("limt=1", "limt"),
        ] {
            let (status, reply) = app.json("POST", &format!("/policy/query?{parameters}"), &json!({})).await;
            assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid_parameter")), "{reply}");
            assert!(reply["message"].as_str().unwrap().contains(named), "{reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catastrophic_expression_is_quick() {
    for database in Database::each() {
        let app = start(database).await;
        let long = json!({"$set": {"description": format!("{}!", "a".repeat(50_000))}});
        app.json("PUT", "/policy/a:1.0-test", &long).await;
        let started = Instant::now();
        for pattern in ["^(a+)+$", "^(a|aa)+$", "(.*a){12}$", "(a*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
            assert_eq!(names(&app, &json!({"description": {"$regex": pattern}}), "").await, "", "{pattern}");
        }
        assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_in_values_and_paths_stays_text() {
    for database in Database::each() {
        let app = start(database).await;
        let poison = "x'); DROP TABLE policies; --";
        for text in [
            poison,
            "' OR '1'='1",
            "\\' OR 1=1 --",
            "$1",
            "\"",
            "\u{0}",
            "x') UNION SELECT doc FROM assets --",
        ] {
            let filters = [
                json!({"name": text}),
                json!({"metadata.team": {"$in": [text]}}),
                json!({"metadata": {text: 1}}),
                json!({"tags": {"$regex": regex_literal(text)}}),
            ];
            for filter in filters {
                let (status, reply) = app.json("POST", "/policy/query", &filter).await;
                // Some cannot be values; everything else is one that nothing has.
                let refused = ["\u{0}", "$1"].contains(&text) && status == 400;
                assert!(refused || (status == 200 && reply["data"] == json!([])), "{filter}: {reply}");
            }
            let filter = json!({format!("metadata.{text}"): 1});
            let (status, reply) = app.json("POST", "/policy/query", &filter).await;
            assert!(status == 400 || reply["data"] == json!([]), "{filter}: {reply}");
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            for parameter in ["sort", "fields"] {
                let path = format!("/policy/query?{parameter}=metadata.{encoded}");
                let (status, reply) = app.json("POST", &path, &json!({})).await;
                assert!([200, 400].contains(&status), "{path}: {reply}");
            }
        }
        assert_eq!(names(&app, &json!({}), "sort=name").await, "abcde", "everything is still there");
    }
}

fn regex_literal(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clauses_work_and_one_more_is_refused() {
    for database in Database::each() {
        let app = start(database).await;
        let clauses = |count: u32| -> Value {
            let mut list: Vec<Value> =
                (1..count - 1).map(|n| json!({"metadata.n": {"$gt": 1000 + n}})).collect();
            list.push(json!({"name": "d"}));
            json!({"$or": list})
        };
        let started = Instant::now();
        assert_eq!(names(&app, &clauses(1000), "").await, "d");
        assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
        let (status, reply) = app.json("POST", "/policy/query", &clauses(1003)).await;
        assert_eq!((status, &reply["error"]["details"]["reason"]), (400, &json!("too_complex")), "{reply}");
        let deep = (0..200).fold(json!({"name": "a"}), |inner, _| json!({"$and": [inner]}));
        let (status, reply) = app.json("POST", "/policy/query", &deep).await;
        assert!(status == 400, "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_and_assets_are_queried_alike() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let executor = json!({
            "executor_id": "e1", "executor_host_uri": "http://127.0.0.1:9",
            "executor_hardware_info": {"vcpus": {"count": 24}}, "executor_metadata": {"tags": ["gpu"]}
        });
        app.json("POST", "/executor", &executor).await;
        let filter = json!({"metadata.tags": "gpu", "$or": [{"hardware_info.vcpus.count": {"$gt": 16}}]});
        let (_, found) = app.json("POST", "/executor/query", &filter).await;
        assert_eq!(found["data"][0]["executor_id"], "e1", "{found}");
        let (_, found) = app.json("POST", "/executor/query", &json!({"executor_status": "healthy"})).await;
        let ids: Vec<&Value> =
            found["data"].as_array().unwrap().iter().map(|record| &record["executor_id"]).collect();
        assert!(ids.contains(&&json!("local")) && ids.contains(&&json!("e1")), "{found}");
        for (name, size) in [("small", 1), ("large", 9)] {
            let asset = json!({
                "asset_name": name, "asset_version": {"version": "1", "tag": "x"}, "asset_metadata": {"size": size},
                "asset_tags": ["t", name], "asset_public_url": "https://example.com/a.zip"
            });
            assert_eq!(app.json("POST", "/asset", &asset).await.0, 200);
        }
        let filter = json!({"asset_tags": {"$all": ["t"]}, "asset_metadata.size": {"$gt": 1}});
        let (_, found) = app.json("POST", "/assets?fields=asset_uri", &filter).await;
        assert_eq!(found["data"], json!([{"asset_uri": "large:1-x"}]), "{found}");
    }
}
