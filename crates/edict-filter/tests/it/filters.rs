//! What filters mean: cases as data, checked in memory and in both databases.

use edict_filter::Filter;
use serde_json::{Value, json};

use crate::databases::{Databases, block_on};

/// `filters.json` is a list of `{about, filter, matches: [documents], misses: [documents]}`.
#[test]
fn cases() {
    let cases: Value = serde_json::from_str(include_str!("filters.json")).unwrap();
    block_on(async {
        let mut databases = Databases::open().await;
        for case in cases.as_array().unwrap() {
            let filter = Filter::parse(&case["filter"]).unwrap_or_else(|error| panic!("{case}: {error}"));
            let mut docs = Vec::new();
            for (list, expected) in [("matches", true), ("misses", false)] {
                for doc in case[list].as_array().unwrap() {
                    let mut doc = doc.clone();
                    for (field, default) in [("name", json!("x")), ("count", json!(0))] {
                        doc.as_object_mut().unwrap().entry(field).or_insert(default);
                    }
                    assert_eq!(
                        filter.matches(&doc),
                        expected,
                        "{}: {} on {doc}",
                        case["about"],
                        case["filter"]
                    );
                    docs.push(doc);
                }
            }
            assert!(!docs.is_empty(), "{case} has no documents");
            databases.load(&docs).await;
            databases.assert_agree(&case["filter"], &docs).await;
        }
    });
}
