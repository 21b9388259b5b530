//! Random documents and random filters: memory and both databases agree.

use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use serde_json::{Map, Value, json};

use crate::databases::Databases;

/// Of what documents and filters are made: few words, so that they often meet, or many.
#[derive(Debug, Clone, Copy)]
enum Words {
    Few,
    Many,
}

fn key(words: Words) -> impl Strategy<Value = &'static str> {
    let many = ["a", "b", "c", "a", "b", "0", "1", "01", "it's", "\"q\\", "%_é "];
    select(match words {
        Words::Few => vec!["a", "a", "0"],
        Words::Many => many.to_vec(),
    })
}

fn scalar(words: Words) -> BoxedStrategy<Value> {
    match words {
        Words::Few => {
            select(vec![json!(null), json!(1), json!(1), json!(0), json!("a"), json!(true)]).boxed()
        }
        Words::Many => any_scalar().boxed(),
    }
}

fn any_scalar() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "a",
        "b",
        "A",
        "ab",
        "é",
        "😀",
        "\u{e000}",
        "it's \"q\" \\ %",
        "a\nb",
        "5",
        "true",
        "null",
        "\t",
    ];
    let numbers = [
        json!(0),
        json!(1),
        json!(1.0),
        json!(-1),
        json!(2),
        json!(5),
        json!(0.5),
        json!(-0.0),
        json!(2.5),
        json!(1e300),
        json!(-7),
        json!(1e-9),
        json!(2147483648i64),
        json!(9007199254740993i64),
        json!(9007199254740992i64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(0.1),
        json!(0.30000000000000004),
    ];
    prop_oneof![
        2 => Just(Value::Null),
        2 => any::<bool>().prop_map(Value::from),
        5 => select(texts.to_vec()).prop_map(Value::from),
        5 => select(numbers.to_vec()),
        1 => any::<i32>().prop_map(Value::from),
        1 => (-1e15..1e15f64).prop_map(Value::from),
    ]
}

fn value(words: Words) -> impl Strategy<Value = Value> {
    scalar(words).prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => vec((key(words), inner), 0..4).prop_map(object),
        ]
    })
}

fn object(fields: Vec<(&'static str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn document(words: Words) -> impl Strategy<Value = Value> {
    let name = select(&["a", "b", "ab", "é", "it's"][..]);
    let count = select(&[0i64, 1, 2, 5, -7, 1 << 40, i64::MAX, i64::MIN][..]);
    (vec((key(words), value(words)), 1..5), name, count).prop_map(|(fields, name, count)| {
        let mut document = object(fields);
        document["name"] = json!(name);
        document["count"] = json!(count);
        document
    })
}

fn path(words: Words) -> impl Strategy<Value = String> {
    prop_oneof![
        6 => vec(key(words), 1..4).prop_map(|keys| keys.join(".")),
        1 => Just("name".to_owned()),
        1 => Just("count".to_owned()),
        1 => Just("name.a".to_owned()),
    ]
}

fn operand(words: Words) -> impl Strategy<Value = Value> {
    prop_oneof![4 => scalar(words), 1 => value(words)]
}

/// One object of operators.
fn operators(words: Words) -> impl Strategy<Value = Value> {
    let comparison = select(&["$gt", "$gte", "$lt", "$lte"][..]);
    let kind = select(&["double", "string", "object", "array", "bool", "null", "int", "long", "number"][..]);
    let pattern =
        select(&["a", "^a$", "(?i)A", "^.$", r"\w", r"[^a]", "é|😀", "'", r"\\", "^$", r"\bq\b", "b$"][..]);
    let simple = prop_oneof![
        (select(&["$eq", "$ne"][..]), operand(words)).prop_map(|(name, value)| json!({ name: value })),
        (select(&["$in", "$nin"][..]), vec(operand(words), 0..4))
            .prop_map(|(name, value)| json!({ name: value })),
        (comparison.clone(), scalar(words)).prop_map(|(name, value)| json!({ name: value })),
        (comparison, scalar(words), scalar(words))
            .prop_map(|(name, value, other)| json!({ name: value, "$gte": other })),
        any::<bool>().prop_map(|exists| json!({ "$exists": exists })),
        vec(kind, 1..3).prop_map(|kinds| json!({ "$type": kinds })),
        vec(operand(words), 0..3).prop_map(|values| json!({ "$all": values })),
        (0..4u8).prop_map(|size| json!({ "$size": size })),
        pattern.prop_map(|pattern| json!({ "$regex": pattern })),
        (select(&[1i64, 2, 3, -2][..]), -1..2i64).prop_map(|(by, rest)| json!({ "$mod": [by, rest] })),
    ];
    simple.prop_recursive(2, 6, 2, move |inner| {
        prop_oneof![
            2 => inner.clone().prop_map(|inner| json!({ "$not": inner })),
            2 => inner.clone().prop_map(|inner| json!({ "$elemMatch": inner })),
            2 => (path(words), inner.clone()).prop_map(|(path, inner)| json!({ "$elemMatch": { path: inner } })),
            1 => (inner.clone(), inner).prop_map(|(a, b)| {
                json!({ "$all": [{ "$elemMatch": a }, { "$elemMatch": { "$not": b } }] })
            }),
        ]
    })
}

fn filter(words: Words) -> impl Strategy<Value = Value> {
    let field = (path(words), prop_oneof![1 => operand(words), 4 => operators(words)]);
    let fields = vec(field, 1..3).prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()));
    fields.prop_recursive(2, 6, 3, move |inner| {
        (select(&["$and", "$or", "$nor"][..]), vec(inner, 1..3))
            .prop_map(|(name, parts)| json!({ name: parts }))
    })
}

#[test]
fn memory_and_databases_agree() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let databases = std::cell::RefCell::new(runtime.block_on(Databases::open()));
    let inputs = select(vec![Words::Few, Words::Many])
        .prop_flat_map(|words| (vec(document(words), 12), vec(filter(words), 12)));
    runner
        .run(&inputs, |(docs, filters)| {
            let mut databases = databases.borrow_mut();
            runtime.block_on(async {
                databases.load(&docs).await;
                for filter in &filters {
                    databases.assert_agree(filter, &docs).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
