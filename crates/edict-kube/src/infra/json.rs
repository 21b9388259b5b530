//! JSON without surprises: no index that may not be there.

use serde_json::Value;

static NULL: Value = Value::Null;

/// What is at a JSON pointer; null where nothing is.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&NULL)
}

/// An object with further fields; objects in it likewise.
pub(super) fn with(base: Value, more: Value) -> Value {
    match (base, more) {
        (Value::Object(mut base), Value::Object(more)) => {
            for (name, value) in more {
                let before = base.remove(&name).unwrap_or_default();
                base.insert(name, with(before, value));
            }
            Value::Object(base)
        }
        (_, more) => more,
    }
}
