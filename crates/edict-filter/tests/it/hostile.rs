//! Requests made to harm: slow patterns, huge filters, SQL in values and paths.

use std::time::{Duration, Instant};

use edict_filter::{Dialect, Filter};
use serde_json::{Value, json};

use crate::databases::{Databases, TABLE, block_on};

fn document(a: Value) -> Value {
    json!({"name": "x", "count": 0, "a": a})
}

#[test]
fn patterns_that_explode_elsewhere_are_quick() {
    let long = "a".repeat(50_000) + "!";
    let docs: Vec<Value> = (0..10).map(|_| document(json!(long))).collect();
    let patterns = [
        "(a+)+$",
        "^(a|aa)+$",
        "(a*)*b",
        "(a|a)*c",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(.*a){10}x",
        "(?:a?){100}a{100}b",
        r"\b(a+\b)+$",
        r"(?:\w+\s?)+!x",
        "(?m)(^a*$)+b",
    ];
    block_on(async {
        let mut databases = Databases::open().await;
        databases.load(&docs).await;
        for pattern in patterns {
            let started = Instant::now();
            databases.assert_agree(&json!({"a": {"$regex": pattern}}), &docs).await;
            // Backtracking would take longer than anyone waits; linear engines need a moment in a debug build.
            assert!(started.elapsed() < Duration::from_secs(10), "{pattern} took {:?}", started.elapsed());
        }
    });
}

#[test]
fn large_patterns_are_quick_or_refused() {
    let docs: Vec<Value> = ["", "a", "é 1"].map(|text| document(json!(text))).to_vec();
    let mut patterns: Vec<String> =
        [r"\w{50}", r"\b{1}", r"(?i)[a-zé]{100}", "a{1000}", "(a{50}){100}"].map(String::from).to_vec();
    patterns.push(r"\b".repeat(500));
    patterns.push(r"\ba?".repeat(12));
    patterns.push(r"\w\W".repeat(200));
    patterns.push("(a|b)?".repeat(160));
    patterns.push(format!("{}a{}", "(".repeat(90), ")*".repeat(90)));
    block_on(async {
        let mut databases = Databases::open().await;
        databases.load(&docs).await;
        for pattern in patterns {
            let filter = json!({"a": {"$regex": pattern}});
            let started = Instant::now();
            match Filter::parse(&filter) {
                Ok(_) => databases.assert_agree(&filter, &docs).await,
                Err(error) => assert_eq!(error.code().as_str(), "bad_regex", "{pattern}"),
            }
            println!("{:?} {:.30}", started.elapsed(), pattern);
            assert!(started.elapsed() < Duration::from_secs(10), "{pattern} took {:?}", started.elapsed());
        }
    });
}

#[test]
fn a_thousand_clauses() {
    let docs: Vec<Value> = (0..5).map(|number| document(json!({"b": number}))).collect();
    let clauses = |operator: &str, path: &str| {
        let each: Vec<Value> = (0..1000).map(|number| json!({ path: number + 3 })).collect();
        json!({ operator: each })
    };
    block_on(async {
        let mut databases = Databases::open().await;
        databases.load(&docs).await;
        let filters = [
            clauses("$or", "a"),
            clauses("$and", "count"),
            clauses("$nor", "name"),
            clauses("$or", "a.b"),
            json!({"a.b": {"$in": (3..1003).collect::<Vec<_>>()}}),
            json!({"a.b": {"$nin": (3..1003).collect::<Vec<_>>()}}),
            json!({"a.b": {"$all": (3..1003).collect::<Vec<_>>()}}),
            json!({"a": (0..999).collect::<Vec<_>>()}),
        ];
        for filter in filters {
            let started = Instant::now();
            databases.assert_agree(&filter, &docs).await;
            assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
            println!("{:?} {:.60}", started.elapsed(), filter.to_string());
        }
    });
}

#[test]
fn the_deepest_filters_run() {
    let wraps: [fn(Value) -> Value; 5] = [
        |inner| json!({"$and": [inner, {"a": {"$exists": true}}]}),
        |inner| json!({"$nor": [inner]}),
        |inner| json!({"a": {"$elemMatch": inner}}),
        |inner| json!({"a.b.0": {"$elemMatch": inner}}),
        |inner| json!({ "a": inner }),
    ];
    let nested = (0..20).fold(json!(1), |inner, _| json!([{ "a": inner }]));
    let docs = [document(json!(1)), document(nested)];
    block_on(async {
        let mut databases = Databases::open().await;
        databases.load(&docs).await;
        for wrap in wraps {
            let mut filter = json!({"a": null});
            while takes(&wrap(filter.clone())) {
                filter = wrap(filter);
            }
            databases.assert_agree(&filter, &docs).await;
        }
        let deepest = vec!["a"; 20].join(".");
        let indexes = format!("a.{}", vec!["0"; 19].join("."));
        for path in [deepest, indexes] {
            for test in [json!(1), json!(null), json!({"$exists": false}), json!({"$gt": 0})] {
                databases.assert_agree(&json!({ &path: test }), &docs).await;
            }
        }
    });
}

#[test]
fn what_is_too_large_for_a_database_is_refused() {
    let path = vec!["a"; 20].join(".");
    let filter = json!({"$or": vec![json!({ path: null }); 900]});
    let filter = Filter::parse(&filter).unwrap();
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        let error = filter.to_sql(dialect, &TABLE, 1).unwrap_err();
        assert_eq!(error.code().as_str(), "too_complex");
    }
}

#[test]
fn sql_in_values_and_paths_stays_text() {
    let texts = [
        "'; DROP TABLE docs; --",
        "' OR '1'='1",
        "\") OR 1=1 --",
        "\\'; DELETE FROM docs",
        "$1",
        "$2::jsonb",
        "?",
        ":a",
        "@a",
        "\"a\" ? (@ == 1)",
        "a\" || true || \"",
        "\\\"a",
        "a\\",
        "%",
        "_",
        "é\u{1F600}",
        "*/ /*",
        "\n--",
        "{}",
        "[0]",
        "$[0]",
        "#-",
        "\u{1}",
        "\u{7f}",
        "\\u0041",
        "\\x41",
        "{{}}",
        "{0}",
        "{value}",
    ];
    block_on(async {
        let mut databases = Databases::open().await;
        let mut docs: Vec<Value> = texts.iter().map(|text| document(json!(text))).collect();
        docs.extend(texts.iter().map(|text| json!({"name": text, "count": 0, *text: {*text: text}})));
        databases.load(&docs).await;
        for text in texts {
            let key = text.replace(['.', '$'], "_");
            let literal = regex_escape(text);
            let filters = [
                json!({"a": text}),
                json!({"name": text}),
                json!({"a": {"$in": [text, 1]}}),
                json!({"a": {"$gt": text}}),
                json!({"name": {"$lte": text}}),
                json!({"a": {"$ne": {text: [text]}}}),
                json!({"a": {"$regex": &literal}}),
                json!({"name": {"$regex": &literal}}),
                json!({ &key: {"$exists": true} }),
                json!({ &key: null }),
                json!({ format!("{key}.{key}"): text }),
                json!({ format!("{key}.{key}"): {"$ne": null} }),
                json!({"a": {"$elemMatch": { &key: text }}}),
                json!({"a": {"$all": [text]}}),
            ];
            for filter in filters {
                databases.assert_agree(&filter, &docs).await;
                let parsed = Filter::parse(&filter).unwrap();
                for dialect in [Dialect::Sqlite, Dialect::Postgres] {
                    let sql = parsed.to_sql(dialect, &TABLE, 1).unwrap();
                    let generic = |c: char| c.is_ascii_graphic() || c == ' ';
                    assert!(sql.text.chars().all(generic) && !sql.text.contains("--"), "{}", sql.text);
                }
            }
        }
        databases.assert_agree(&json!({}), &docs).await;
    });
}

fn takes(filter: &Value) -> bool {
    Filter::parse(filter).is_ok_and(|filter| filter.to_sql(Dialect::Sqlite, &TABLE, 1).is_ok())
}

fn regex_escape(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_ascii_punctuation() { vec!['\\', c] } else { vec![c] }).collect()
}
