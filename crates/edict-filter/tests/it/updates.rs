//! What updates do: cases as data, and what always holds.

use edict_filter::Update;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

fn parse(update: &Value) -> Update {
    Update::parse(update).unwrap_or_else(|error| panic!("{update}: {error}")).unwrap()
}

/// `updates.json` is a list of `{about, before, update, after}`, or with `refused`, parts of the message, in place of
/// `after`.
#[test]
fn cases() {
    let cases: Value = serde_json::from_str(include_str!("updates.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let mut document = case["before"].clone();
        let result = parse(&case["update"]).apply(&mut document);
        match case["refused"].as_array() {
            None => {
                result.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(document, case["after"], "{}", case["about"]);
            }
            Some(parts) => {
                let error = result.expect_err(case["about"].as_str().unwrap());
                assert_eq!(error.code().as_str(), "cannot_apply");
                for part in parts {
                    assert!(error.to_string().contains(part.as_str().unwrap()), "{}: {error}", case["about"]);
                }
                assert_eq!(document, case["before"], "{}", case["about"]);
            }
        }
    }
}

#[test]
fn a_full_record_is_no_update() {
    assert!(Update::parse(&json!({"name": "a", "tags": {"$set": 1}})).unwrap().is_none());
    assert!(Update::parse(&json!({})).unwrap().is_none());
}

#[test]
fn paths_can_be_aliased() {
    let alias = |path: &str| match path.strip_prefix("metadata.") {
        Some(rest) => format!("executor_metadata.{rest}"),
        None => path.to_owned(),
    };
    let update =
        parse(&json!({"$set": {"metadata.description": "new"}, "$rename": {"metadata.a": "metadata.b"}}));
    let update = update.map_paths(alias).unwrap();
    let mut executor = json!({"executor_metadata": {"a": 1}});
    update.apply(&mut executor).unwrap();
    assert_eq!(executor, json!({"executor_metadata": {"b": 1, "description": "new"}}));
    assert_eq!(
        update.paths().collect::<Vec<_>>(),
        ["executor_metadata.a", "executor_metadata.b", "executor_metadata.description"]
    );

    let both = parse(&json!({"$set": {"metadata.a": 1, "executor_metadata.a": 2}}));
    assert_eq!(both.map_paths(alias).unwrap_err().code().as_str(), "conflicting_paths");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9..9i64).prop_map(Value::from),
        Just(json!(i64::MAX)),
        (-1e3..1e3f64).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abc01]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[abc]", value(), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn update() -> impl Strategy<Value = Value> {
    let change = prop_oneof![
        (select(vec!["$set", "$min", "$max", "$push", "$addToSet", "$pull", "$unset"]), value()),
        (select(vec!["$inc", "$mul"]), (-9..9i64).prop_map(Value::from)),
        (Just("$pop"), select(vec![json!(1), json!(-1)])),
        (Just("$rename"), "[abc](\\.[ab01])?".prop_map(Value::from)),
    ];
    prop::collection::vec(("[abc](\\.[abc01]){0,2}", change), 1..4).prop_map(|changes| {
        let mut update = json!({});
        for (path, (operator, operand)) in changes {
            update[operator][path] = operand;
        }
        update
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn a_failed_update_changes_nothing(before in document(), update in update()) {
        let mut after = before.clone();
        let Ok(Some(update)) = Update::parse(&update) else { return Ok(()) };
        if update.apply(&mut after).is_err() {
            prop_assert_eq!(before, after);
        } else {
            prop_assert!(after.is_object());
        }
    }

    #[test]
    fn setting_twice_is_setting_once(before in document(), path in "[abc](\\.[abc01]){0,2}", value in value()) {
        for operator in ["$set", "$min", "$max", "$addToSet", "$pull", "$unset"] {
            let update = parse(&json!({ operator: { &path: value.clone() } }));
            let mut once = before.clone();
            if update.apply(&mut once).is_ok() {
                let mut twice = once.clone();
                update.apply(&mut twice).unwrap();
                prop_assert_eq!(&once, &twice, "{}", operator);
            }
        }
    }
}
