//! Templates: a map from field to what the field must be.

mod compile;

use std::cmp::Ordering;

use regex::Regex;
use serde_json::{Map, Number, Value};

use crate::fault::{Faults, Path, describe, quote, quote_text};
use crate::number;

pub(crate) use compile::compile;

/// The fields of an object that are named; others are allowed.
#[derive(Default)]
pub(crate) struct Fields(Vec<Field>);

struct Field {
    name: Box<str>,
    required: bool,
    rule: Rule,
}

/// What a value must be.
struct Rule {
    kind: Kind,
    /// `None` for no `choices`.
    choices: Option<Vec<Value>>,
}

enum Kind {
    Any,
    String { pattern: Option<Pattern>, length: Option<usize> },
    Number { integer: bool, min: Option<Number>, max: Option<Number> },
    Boolean,
    Array { max_length: Option<usize>, items: Option<Box<Rule>> },
    Object(Fields),
}

struct Pattern {
    /// As it was written.
    source: Box<str>,
    regex: Regex,
}

impl Kind {
    /// With its article, for messages.
    fn name(&self) -> &'static str {
        match self {
            Self::Any => "any value",
            Self::String { .. } => "a string",
            Self::Number { integer: false, .. } => "a number",
            Self::Number { integer: true, .. } => "an integer",
            Self::Boolean => "a boolean",
            Self::Array { .. } => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl Fields {
    pub(crate) fn validate(&self, map: &Map<String, Value>, path: &Path<'_>, faults: &mut Faults) {
        for Field { name, required, rule } in &self.0 {
            if faults.is_full() {
                return;
            }
            match map.get(&**name) {
                Some(value) => rule.validate(value, &Path::Key(path, name), faults),
                None if *required => faults
                    .push(path, || format!("must have the field {}, {}", quote_text(name), rule.kind.name())),
                None => {}
            }
        }
    }
}

impl Rule {
    /// Recursion follows the rule, never the value alone, so a deeply nested value cannot overflow the stack.
    fn validate(&self, value: &Value, path: &Path<'_>, faults: &mut Faults) {
        match (&self.kind, value) {
            (Kind::Any, _) | (Kind::Boolean, Value::Bool(_)) => {}
            (Kind::String { pattern, length }, Value::String(text)) => {
                if let Some(length) = length {
                    check_length(text, *length, path, faults);
                }
                if let Some(Pattern { source, regex }) = pattern
                    && !regex.is_match(text)
                {
                    faults.push(path, || {
                        format!("must match the pattern {}, got {}", quote_text(source), quote_text(text))
                    });
                }
            }
            (Kind::Number { integer, min, max }, Value::Number(got)) => {
                if *integer && !number::is_integer(got) {
                    faults.push(path, || format!("must be an integer, got {}", describe(value)));
                }
                if let Some(min) = min
                    && number::compare(got, min) == Ordering::Less
                {
                    faults.push(path, || format!("must be at least {min}, got {}", quote(value)));
                }
                if let Some(max) = max
                    && number::compare(got, max) == Ordering::Greater
                {
                    faults.push(path, || format!("must be at most {max}, got {}", quote(value)));
                }
            }
            (Kind::Array { max_length, items }, Value::Array(values)) => {
                if let Some(max) = max_length
                    && values.len() > *max
                {
                    let length = values.len();
                    faults.push(path, || format!("must have at most {max} items, has {length}"));
                }
                if let Some(rule) = items {
                    for (index, item) in values.iter().enumerate() {
                        if faults.is_full() {
                            return;
                        }
                        rule.validate(item, &Path::Index(path, index), faults);
                    }
                }
            }
            (Kind::Object(fields), Value::Object(map)) => fields.validate(map, path, faults),
            (kind, _) => {
                faults.push(path, || format!("must be {}, got {}", kind.name(), describe(value)));
                return;
            }
        }
        if let Some(choices) = &self.choices
            && !choices.iter().any(|choice| number::equal(choice, value))
        {
            faults.push(path, || format!("must be one of {}, got {}", list(choices), quote(value)));
        }
    }
}

fn check_length(text: &str, max: usize, path: &Path<'_>, faults: &mut Faults) {
    // A character takes at least one byte, so most texts need no counting.
    if text.len() > max {
        let length = text.chars().count();
        if length > max {
            faults.push(path, || {
                format!("must have at most {max} characters, has {length}: {}", quote_text(text))
            });
        }
    }
}

/// The first choices, in backticks.
fn list(choices: &[Value]) -> String {
    const SHOWN: usize = 10;
    let mut shown: Vec<_> = choices.iter().take(SHOWN).map(quote).collect();
    if let Some(more) = choices.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}
