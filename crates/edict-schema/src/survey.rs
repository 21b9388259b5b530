//! How large a value is, measured without recursion, before anything that recurses may see it.

use std::collections::HashSet;

use serde_json::Value;

use crate::fault::{Faults, Path};

/// Levels of JSON in a schema: 32 objects in one another, each with its `properties`.
const MAX_DEPTH: usize = 64;
const MAX_VALUES: usize = 10_000;
const MAX_PATTERNS: usize = 100;
const MAX_PATTERN_CHARS: usize = 1_000;

/// What was counted in a value.
#[derive(Default)]
pub(crate) struct Survey {
    /// Levels of arrays and objects; 0 for a scalar.
    pub(crate) depth: usize,
    /// Values of every kind.
    pub(crate) values: usize,
    /// Objects.
    pub(crate) objects: usize,
    /// Whether a key is one of the keywords with which a JSON Schema refers to (a part of) itself.
    pub(crate) refers: bool,
}

impl Survey {
    /// Counts, and stops as soon as the value is known to be deeper than `depth`.
    pub(crate) fn of<'v>(value: &'v Value, depth: usize, mut key: impl FnMut(&'v str, &'v Value)) -> Self {
        let mut survey = Self::default();
        let mut open = vec![(value, 0)];
        while let Some((value, level)) = open.pop() {
            survey.values += 1;
            let inside = level + 1;
            match value {
                Value::Array(items) => open.extend(items.iter().map(|item| (item, inside))),
                Value::Object(map) => {
                    survey.objects += 1;
                    for (name, value) in map {
                        survey.refers |= matches!(name.as_str(), "$ref" | "$dynamicRef" | "$recursiveRef");
                        key(name, value);
                        open.push((value, inside));
                    }
                }
                _ => continue,
            }
            survey.depth = survey.depth.max(inside);
            if survey.depth > depth {
                break;
            }
        }
        survey
    }

    /// Counts in a schema, and tells where it is larger than a schema may be: what it costs to compile and to
    /// keep is bounded here.
    pub(crate) fn of_schema(schema: &Value, faults: &mut Faults) -> Self {
        let mut patterns = HashSet::new();
        let survey = Self::of(schema, MAX_DEPTH, |key, value| match (key, value) {
            ("pattern", Value::String(pattern)) => {
                patterns.insert(pattern.as_str());
            }
            ("patternProperties", Value::Object(map)) => patterns.extend(map.keys().map(String::as_str)),
            _ => {}
        });
        let root = &Path::Root;
        if survey.depth > MAX_DEPTH {
            faults.push(root, || format!("must nest at most {MAX_DEPTH} levels deep"));
        }
        if survey.values > MAX_VALUES {
            faults.push(root, || format!("must hold at most {MAX_VALUES} values, holds {}", survey.values));
        }
        if patterns.len() > MAX_PATTERNS {
            let count = patterns.len();
            faults
                .push(root, || format!("must hold at most {MAX_PATTERNS} different patterns, holds {count}"));
        }
        if patterns.iter().any(|pattern| pattern.chars().count() > MAX_PATTERN_CHARS) {
            faults.push(root, || format!("a pattern must have at most {MAX_PATTERN_CHARS} characters"));
        }
        survey
    }
}
