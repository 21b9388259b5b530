//! Changing a document.

use serde_json::{Map, Number, Value};

use super::{Action, Change};
use crate::{
    FilterError,
    parse::Condition,
    path::{Path, Segment},
    value::{compare, equal, type_name},
};

/// How far past its end an array may be written to; what lies between is filled with null.
const MAX_FILL: usize = 1_000;

impl Change {
    pub(super) fn apply(&self, document: &mut Value) -> Result<(), FilterError> {
        match &self.action {
            Action::Set(value) => {
                *self.create(document)? = value.clone();
                Ok(())
            }
            Action::Unset => {
                remove(document, self.path.segments());
                Ok(())
            }
            Action::Inc(by) => self.calculate(document, by, i64::checked_add, |a, b| a + b),
            Action::Mul(by) => self.calculate(document, by, i64::checked_mul, |a, b| a * b),
            Action::Min(value) => self.replace_if(document, value, |found| compare(value, found).is_lt()),
            Action::Max(value) => self.replace_if(document, value, |found| compare(value, found).is_gt()),
            Action::Rename(target) => self.rename(document, target),
            Action::Push(values) => {
                self.create_array(document)?.extend(values.iter().cloned());
                Ok(())
            }
            Action::AddToSet(values) => {
                let items = self.create_array(document)?;
                for value in values {
                    if !items.iter().any(|item| equal(item, value)) {
                        items.push(value.clone());
                    }
                }
                Ok(())
            }
            Action::Pull(condition) => self.shrink(document, |items| {
                items.retain(|item| !condition.accepts(item));
            }),
            Action::PopFirst => self.shrink(document, |items| {
                items.drain(..items.len().min(1));
            }),
            Action::PopLast => self.shrink(document, |items| {
                items.pop();
            }),
        }
    }

    fn calculate(
        &self,
        document: &mut Value,
        operand: &Number,
        exact: fn(i64, i64) -> Option<i64>,
        float: fn(f64, f64) -> f64,
    ) -> Result<(), FilterError> {
        let missing = get(document, self.path.segments()).is_none();
        let place = self.create(document)?;
        // A missing field counts as 0, of the operand's kind.
        let zero = if operand.is_f64() { Number::from_f64(0.0) } else { Some(Number::from(0)) };
        let found = match place {
            Value::Number(found) => found.clone(),
            _ if missing => zero.unwrap_or_else(|| Number::from(0)),
            _ => return Err(self.misfit("a number", place)),
        };
        let result = match (found.is_f64() || operand.is_f64(), found.as_i64(), operand.as_i64()) {
            (false, Some(found), Some(operand)) => exact(found, operand).map(Number::from),
            (true, ..) => {
                found.as_f64().zip(operand.as_f64()).and_then(|(a, b)| Number::from_f64(float(a, b)))
            }
            _ => None,
        };
        *place = result.map(Value::Number).ok_or_else(|| {
            let Self { operator, path, .. } = self;
            FilterError::cannot_apply(format!("`{operator}` at `{path}` exceeds the range of numbers"))
        })?;
        Ok(())
    }

    fn replace_if(
        &self,
        document: &mut Value,
        value: &Value,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<(), FilterError> {
        if get(document, self.path.segments()).is_none_or(wanted) {
            *self.create(document)? = value.clone();
        }
        Ok(())
    }

    fn rename(&self, document: &mut Value, target: &Path) -> Result<(), FilterError> {
        for path in [&self.path, target] {
            if leads_through_array(document, path.segments()) {
                return Err(FilterError::cannot_apply(format!(
                    "`$rename` cannot reach into an array: `{path}`"
                )));
            }
        }
        if get(document, self.path.segments()).is_some() {
            let value = remove(document, self.path.segments());
            *create(document, target, "$rename")? = value;
        }
        Ok(())
    }

    fn create<'d>(&self, document: &'d mut Value) -> Result<&'d mut Value, FilterError> {
        create(document, &self.path, self.operator)
    }

    fn create_array<'d>(&self, document: &'d mut Value) -> Result<&'d mut Vec<Value>, FilterError> {
        let missing = get(document, self.path.segments()).is_none();
        let place = self.create(document)?;
        if missing {
            *place = Value::Array(Vec::new());
        }
        match place {
            Value::Array(items) => Ok(items),
            other => Err(self.misfit("an array", other)),
        }
    }

    /// Takes elements out of an array; a missing one stays missing.
    fn shrink(&self, document: &mut Value, shrink: impl Fn(&mut Vec<Value>)) -> Result<(), FilterError> {
        if get(document, self.path.segments()).is_none() {
            return Ok(());
        }
        match self.create(document)? {
            Value::Array(items) => {
                shrink(items);
                Ok(())
            }
            other => Err(self.misfit("an array", other)),
        }
    }

    fn misfit(&self, wants: &str, found: &Value) -> FilterError {
        let Self { operator, path, .. } = self;
        FilterError::cannot_apply(format!(
            "`{operator}` needs {wants} at `{path}`, found {}",
            type_name(found)
        ))
    }
}

impl Condition {
    fn accepts(&self, element: &Value) -> bool {
        match self {
            Self::Element(tests) => tests.accepts(element),
            Self::Object(filter) => element.is_object() && filter.matches(element),
        }
    }
}

fn index(segment: &Segment) -> Option<usize> {
    segment.index.and_then(|index| usize::try_from(index).ok())
}

fn get<'d>(value: &'d Value, path: &[Segment]) -> Option<&'d Value> {
    let Some((segment, rest)) = path.split_first() else { return Some(value) };
    match value {
        Value::Object(fields) => get(fields.get(&segment.key)?, rest),
        Value::Array(items) => get(items.get(index(segment)?)?, rest),
        _ => None,
    }
}

fn leads_through_array(value: &Value, path: &[Segment]) -> bool {
    let Some((segment, rest)) = path.split_first() else { return false };
    match value {
        Value::Object(fields) => {
            fields.get(&segment.key).is_some_and(|field| leads_through_array(field, rest))
        }
        _ => value.is_array(),
    }
}

/// The place a path leads to, made if it is missing.
fn create<'d>(document: &'d mut Value, path: &Path, operator: &str) -> Result<&'d mut Value, FilterError> {
    let misfit =
        |why: String| FilterError::cannot_apply(format!("`{operator}` cannot reach `{path}`: {why}"));
    let mut place = document;
    let mut fresh = false;
    for segment in path.segments() {
        if fresh {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Object(fields) => {
                fresh = !fields.contains_key(&segment.key);
                fields.entry(segment.key.clone()).or_insert(Value::Null)
            }
            Value::Array(items) => {
                let key = segment.key.escape_debug();
                let index = index(segment)
                    .ok_or_else(|| misfit(format!("`{key}` is not an index of the array there")))?;
                let length = items.len();
                fresh = index >= length;
                if index >= length.saturating_add(MAX_FILL) {
                    return Err(misfit(format!("index {index} is far beyond the array's {length} elements")));
                }
                if fresh {
                    items.resize(index.saturating_add(1), Value::Null);
                }
                items.get_mut(index).ok_or_else(|| misfit("no such element".to_owned()))?
            }
            other => {
                let found = type_name(other);
                return Err(misfit(format!(
                    "`{}` is in the way, {found} has no fields",
                    segment.key.escape_debug()
                )));
            }
        };
    }
    Ok(place)
}

/// Takes out what a path leads to. An element of an array leaves null, so that the others keep their places.
fn remove(value: &mut Value, path: &[Segment]) -> Value {
    let Some((segment, rest)) = path.split_first() else { return value.take() };
    match value {
        Value::Object(fields) if rest.is_empty() => fields.remove(&segment.key).unwrap_or_default(),
        Value::Object(fields) => {
            fields.get_mut(&segment.key).map(|field| remove(field, rest)).unwrap_or_default()
        }
        Value::Array(items) => {
            let item = index(segment).and_then(|index| items.get_mut(index));
            item.map(|item| remove(item, rest)).unwrap_or_default()
        }
        _ => Value::Null,
    }
}
