//! Sorting in both databases, and projection.

use edict_filter::{Dialect, Projection};
use serde_json::{Value, json};

use crate::databases::{Databases, block_on};

#[test]
fn databases_sort_alike() {
    let values = [
        json!({}),
        json!({"a": null}),
        json!({"a": -1.5}),
        json!({"a": 2}),
        json!({"a": 10}),
        json!({"a": "10"}),
        json!({"a": "B"}),
        json!({"a": "a"}),
        json!({"a": "é"}),
        json!({"a": "\u{e000}"}),
        json!({"a": "😀"}),
        json!({"a": {"b": 2}}),
        json!({"a": {"b": 1}}),
        json!({"a": [2]}),
        json!({"a": [1]}),
        json!({"a": false}),
        json!({"a": true}),
    ];
    // In order by `a`; names and counts differ so that columns can decide.
    let document = |(position, fields): (usize, &Value)| {
        let mut document = fields.clone();
        document["name"] = json!(["b", "Z", "a"][position % 3]);
        document["count"] = json!(position % 2);
        document
    };
    let docs: Vec<Value> = values.iter().enumerate().map(document).collect();
    block_on(async {
        let mut databases = Databases::open().await;
        databases.load(&docs).await;
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            let Some(ascending) = databases.sorted(dialect, "a").await else { continue };
            assert_eq!(ascending, (0..17).collect::<Vec<_>>(), "{dialect:?}");
            let descending = databases.sorted(dialect, "-a").await.unwrap();
            assert_eq!(descending, [16, 15, 13, 14, 11, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 0, 1], "{dialect:?}");
            let below = databases.sorted(dialect, "-a.b").await.unwrap();
            assert_eq!(below[..3], [11, 12, 0], "{dialect:?}");
            let mut by_columns: Vec<i64> = (0..17).collect();
            by_columns.sort_by_key(|id| (["b", "Z", "a"][*id as usize % 3], std::cmp::Reverse(id % 2), *id));
            assert_eq!(databases.sorted(dialect, "name, -count").await.unwrap(), by_columns, "{dialect:?}");
            assert_eq!(databases.sorted(dialect, "").await.unwrap(), (0..17).collect::<Vec<_>>());
            assert_eq!(
                databases.sorted(dialect, "it's; DROP,%_é").await.unwrap(),
                (0..17).collect::<Vec<_>>()
            );
        }
    });
}

#[test]
fn projections() {
    let document =
        json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 1, "g": 2}, 5, [{"f": 3}], {}], "h": [1]});
    let cases = [
        ("", document.clone()),
        ("a", json!({"a": 1})),
        ("b.c, a", json!({"a": 1, "b": {"c": 2}})),
        ("b.c,b,b.d", json!({"b": {"c": 2, "d": 3}})),
        ("e.f", json!({"e": [{"f": 1}, [{"f": 3}], {}]})),
        ("a.x,h.x,missing", json!({"h": []})),
    ];
    for (text, expected) in cases {
        assert_eq!(Projection::parse(text).unwrap().apply(&document), expected, "{text}");
    }
}
