//! Numbers and equality as JSON Schema has them: by mathematical value, so that 1 equals 1.0.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Compares by value. Exact also where a float cannot hold the integer (above 2⁵³).
pub(crate) fn compare(a: &Number, b: &Number) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_mixed(a, float(b)),
        (None, Some(b)) => compare_mixed(b, float(a)).reverse(),
        (None, None) => float(a).total_cmp(&float(b)),
    }
}

/// Whether the number has no fraction: 1.0 and 1e3 are integers.
pub(crate) fn is_integer(number: &Number) -> bool {
    integer(number).is_some() || float(number).fract() == 0.0
}

/// Equality by value, in arrays and objects too. Recursion is bounded by the shallower of the two.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Ordering::Equal,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        _ => false,
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    // Zero has two floats, and `total_cmp` tells them apart; adding 0.0 leaves one.
    number.as_f64().unwrap_or(f64::NAN) + 0.0
}

fn compare_mixed(integer: i128, float: f64) -> Ordering {
    // The cast saturates, far outside the range of a JSON integer, so the order stays right.
    #[expect(clippy::cast_possible_truncation, reason = "the fraction is compared on its own")]
    let whole = float.trunc() as i128;
    integer.cmp(&whole).then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn compares_by_value() {
        let ordered = ["-1e300", "-9223372036854775808", "-1.5", "-1", "-0.5", "0", "0.5", "1", "1.5"];
        let large =
            ["9007199254740992", "9007199254740993", "18446744073709551615", "18446744073709551616", "1e300"];
        let ordered: Vec<_> = ordered.into_iter().chain(large).map(number).collect();
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
    }

    #[test]
    fn equality_is_by_value() {
        for (a, b) in [("1", "1.0"), ("0", "-0.0"), ("0.0", "-0.0"), ("1000", "1e3"), ("-2", "-2.0")] {
            assert_eq!(compare(&number(a), &number(b)), Ordering::Equal, "{a} and {b}");
        }
        assert!(equal(&json!({"a": [1, {"b": 2.0}]}), &json!({"a": [1.0, {"b": 2}]})));
        assert!(!equal(&json!({"a": null}), &json!({"b": null})));
        assert!(!equal(&json!(1), &json!(true)));
        assert!(!equal(&json!("1"), &json!(1)));
    }
}
