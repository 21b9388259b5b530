//! Short names in paths: `metadata.tags` stands for `executor_metadata.tags`, `hardware_info.*` likewise.

use serde_json::{Map, Value};

const ALIASES: [(&str, &str); 2] =
    [("metadata", "executor_metadata"), ("hardware_info", "executor_hardware_info")];

/// The full path that `path` stands for.
fn full(path: &str) -> String {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let first = ALIASES.iter().find(|(alias, _)| *alias == first).map_or(first, |(_, name)| name);
    rest.map_or_else(|| first.to_owned(), |rest| format!("{first}.{rest}"))
}

/// Replaces short names in the paths of update operators. A full record has no paths and is left as it is.
pub(super) fn in_update(update: Value) -> Value {
    let Value::Object(operators) = update else { return update };
    let renamed = |(operator, changes): (String, Value)| {
        let changes = match changes {
            Value::Object(paths) if operator.starts_with('$') => {
                let to_full = |value| match value {
                    Value::String(target) if operator == "$rename" => Value::String(full(&target)),
                    other => other,
                };
                Value::Object(paths.into_iter().map(|(path, value)| (full(&path), to_full(value))).collect())
            }
            other => other,
        };
        (operator, changes)
    };
    Value::Object(operators.into_iter().map(renamed).collect())
}

/// Replaces short names in the paths of a filter.
pub(super) fn in_filter(filter: Value) -> Value {
    match filter {
        Value::Object(clauses) => {
            let renamed = |(path, clause): (String, Value)| match (path.as_str(), clause) {
                ("$and" | "$or" | "$nor", Value::Array(filters)) => {
                    (path, Value::Array(filters.into_iter().map(in_filter).collect()))
                }
                (_, clause) if path.starts_with('$') => (path, clause),
                (_, clause) => (full(&path), clause),
            };
            Value::Object(clauses.into_iter().map(renamed).collect::<Map<_, _>>())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_names_stand_for_full_ones() {
        let update = json!({"$set": {"metadata.tags": ["a"], "executor_id": "b"}, "$rename": {"metadata.a": "metadata.b"}});
        let full = json!({
            "$set": {"executor_metadata.tags": ["a"], "executor_id": "b"},
            "$rename": {"executor_metadata.a": "executor_metadata.b"}
        });
        assert_eq!(in_update(update), full);
        let filter =
            json!({"$or": [{"hardware_info.vcpus.count": {"$gte": 1}}, {"metadata": {"metadata": 1}}]});
        let full = json!({
            "$or": [{"executor_hardware_info.vcpus.count": {"$gte": 1}}, {"executor_metadata": {"metadata": 1}}]
        });
        assert_eq!(in_filter(filter), full);
    }

    #[test]
    fn a_full_record_is_left_alone() {
        let record = json!({"executor_id": "a", "executor_metadata": {"metadata": 1}});
        assert_eq!(in_update(record.clone()), record);
    }
}
