//! What is refused: the code, and what the message names.

use edict_filter::{Filter, Projection, Sort, Update};
use serde_json::{Value, json};

fn assert_refused<T>(
    result: Result<T, edict_filter::FilterError>,
    about: &Value,
    code: &str,
    parts: &[&str],
) {
    let Err(error) = result else { panic!("{about} is taken") };
    assert_eq!(error.code().as_str(), code, "{about}: {error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{about}: {error}: no {part}");
    }
}

#[test]
fn filters() {
    let cases: &[(Value, &str, &[&str])] = &[
        (json!([]), "bad_operand", &["object", "array"]),
        (json!({"a": {"$gtt": 1}}), "unknown_operator", &["`$gtt`", "`a`", "`$gt`"]),
        (json!({"a.b": {"$regx": 1}}), "unknown_operator", &["`a.b`", "`$regex`"]),
        (json!({"a": {"$where": "1"}}), "unknown_operator", &["`$where`"]),
        (json!({"$orr": []}), "unknown_operator", &["`$orr`", "`$or`"]),
        (json!({"$where": "sleep(1)"}), "unknown_operator", &["`$where`", "$nor"]),
        (json!({"$gt": 1}), "misplaced_operator", &["`$gt`"]),
        (json!({"a": {"$or": []}}), "misplaced_operator", &["`$or`", "`a`"]),
        (json!({"$or": []}), "bad_operand", &["`$or`"]),
        (json!({"$and": [5]}), "bad_operand", &["`$and`"]),
        (json!({"a": {"$in": 5}}), "bad_operand", &["`$in` at `a`", "array", "`5`"]),
        (json!({"a": {"$in": [{"$gt": 1}]}}), "misplaced_operator", &["`$in`"]),
        (json!({"a": {"$gt": [1]}}), "bad_operand", &["`$gt` at `a`"]),
        (json!({"a": {"$gt": 1, "b": 2}}), "bad_operand", &["`b`", "`a`"]),
        (json!({"a": {"$not": 5}}), "bad_operand", &["`$not`"]),
        (json!({"a": {"$not": {}}}), "bad_operand", &["`$not`"]),
        (json!({"a": {"$exists": "yes"}}), "bad_operand", &["`$exists`"]),
        (json!({"a": {"$type": "text"}}), "bad_operand", &["string"]),
        (json!({"a": {"$type": []}}), "bad_operand", &["`$type`"]),
        (json!({"a": {"$size": -1}}), "bad_operand", &["`$size`"]),
        (json!({"a": {"$size": 1.5}}), "bad_operand", &["`$size`"]),
        (json!({"a": {"$mod": [0, 1]}}), "bad_operand", &["`$mod`"]),
        (json!({"a": {"$mod": [1]}}), "bad_operand", &["`$mod`"]),
        (json!({"a": {"$all": [{"$gt": 1}]}}), "bad_operand", &["`$all`"]),
        (json!({"a": {"$elemMatch": 1}}), "bad_operand", &["`$elemMatch`"]),
        (json!({"a": {"$elemMatch": {"b": {"$x": 1}}}}), "unknown_operator", &["`$x`"]),
        (json!({"a": {"$options": "i"}}), "bad_operand", &["`$regex`"]),
        (json!({"a": {"$regex": "a", "$options": "g"}}), "bad_operand", &["`g`"]),
        (json!({"a": {"$regex": 5}}), "bad_operand", &["`$regex` at `a`"]),
        (json!({"a": {"$regex": "("}}), "bad_regex", &["`a`", "unclosed"]),
        (json!({"a": {"$regex": "(?=x)"}}), "bad_regex", &["look-ahead"]),
        (json!({"a": {"$regex": "(a)\\1"}}), "bad_regex", &["backreferences"]),
        (json!({"a": {"$regex": "(?:a{100}){100}"}}), "bad_regex", &["too large"]),
        (json!({"a": {"$regex": "a".repeat(1001)}}), "bad_regex", &["1000"]),
        (json!({"a": {"$regex": "(".repeat(900)}}), "bad_regex", &[]),
        (json!({"a": {"$regex": "\0"}}), "bad_regex", &["NUL"]),
        (json!({"": 1}), "bad_path", &["empty"]),
        (json!({"a..b": 1}), "bad_path", &["`a..b`"]),
        (json!({"a.$.b": 1}), "bad_path", &["`a.$.b`"]),
        (json!({"a\0": 1}), "bad_path", &["NUL"]),
        (json!({"a": "\0"}), "bad_operand", &["NUL", "`a`"]),
        (json!({"a": {"$lt": "\0"}}), "bad_operand", &["NUL"]),
        (json!({"a": [{"\0": 1}]}), "bad_operand", &["NUL"]),
        (json!({ vec!["a"; 21].join("."): 1 }), "bad_path", &["20"]),
        (json!({ "a".repeat(1001): 1 }), "bad_path", &["1000"]),
        (json!({"a": {"$in": vec![1; 1001]}}), "too_complex", &["1000"]),
        (json!({"$or": vec![json!({}); 1001]}), "too_complex", &["1000"]),
    ];
    for (filter, code, parts) in cases {
        assert_refused(Filter::parse(filter), filter, code, parts);
    }
}

#[test]
fn nesting_is_limited() {
    let nest =
        |levels: usize, wrap: fn(Value) -> Value| (0..levels).fold(json!({"a": 1}), |inner, _| wrap(inner));
    let wraps: [fn(Value) -> Value; 3] = [
        |inner| json!({"$and": [inner]}),
        |inner| json!({"a": {"$elemMatch": inner}}),
        |inner| json!({ "a": inner }),
    ];
    for wrap in wraps {
        assert_refused(Filter::parse(&nest(100, wrap)), &json!("deep"), "too_complex", &["32"]);
        assert!(Filter::parse(&nest(10, wrap)).is_ok());
    }
}

#[test]
fn updates() {
    let cases: &[(Value, &str, &[&str])] = &[
        (json!("x"), "bad_operand", &["object"]),
        (json!({"$set": {"a": 1}, "b": 1}), "bad_operand", &["`b`"]),
        (json!({"$sett": {"a": 1}}), "unknown_operator", &["`$sett`", "`$set`"]),
        (json!({"$set": 5}), "bad_operand", &["`$set`"]),
        (json!({"$set": {"a.": 5}}), "bad_path", &["`a.`"]),
        (json!({"$set": {"a.$[]": 5}}), "bad_path", &["positional"]),
        (json!({"$set": {"a": "\0"}}), "bad_operand", &["NUL"]),
        (json!({"$inc": {"a.b": "1"}}), "bad_operand", &["`$inc` at `a.b`", "string"]),
        (json!({"$rename": {"a": 1}}), "bad_operand", &["`$rename`"]),
        (json!({"$pop": {"a": 2}}), "bad_operand", &["`$pop`"]),
        (json!({"$push": {"a": {"$each": 1}}}), "bad_operand", &["`$each`"]),
        (json!({"$push": {"a": {"$each": [], "$slice": 1}}}), "unknown_operator", &["`$slice`", "`a`"]),
        (json!({"$pull": {"a": {"$gtt": 1}}}), "unknown_operator", &["`$gtt`", "`a`", "`$gt`"]),
        (json!({"$set": {"a": 1, "a.b": 2}}), "conflicting_paths", &["`a`", "`a.b`"]),
        (json!({"$set": {"a.b": 1}, "$inc": {"a.b": 2}}), "conflicting_paths", &["`a.b`"]),
        (json!({"$rename": {"a": "a"}}), "conflicting_paths", &["`a`"]),
        (json!({"$rename": {"a": "b"}, "$set": {"b.c": 1}}), "conflicting_paths", &["`b.c`"]),
    ];
    for (update, code, parts) in cases {
        assert_refused(Update::parse(update), update, code, parts);
    }
}

#[test]
fn sorts_and_projections() {
    for text in ["a,,b", "-", "$a", "a..b", ","] {
        assert_refused(Sort::parse(text), &json!(text), "bad_path", &[]);
    }
    assert_refused(Sort::parse(&["a"; 11].join(",")), &json!("many"), "too_complex", &["10"]);
    assert_refused(Projection::parse("a,$b"), &json!("$b"), "bad_path", &["`$b`"]);
    assert_refused(Projection::parse(&["a"; 101].join(",")), &json!("many"), "too_complex", &["100"]);
}
