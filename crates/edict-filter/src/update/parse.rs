//! From JSON to an update.

use serde_json::{Map, Value};

use super::{Action, Change, Update};
use crate::{
    ErrorCode, FilterError,
    parse::pull_condition,
    path::Path,
    value::{contains_nul, type_name},
};

const MAX_CHANGES: usize = 1_000;
const OPERATORS: [&str; 11] =
    ["$set", "$unset", "$inc", "$mul", "$min", "$max", "$rename", "$push", "$addToSet", "$pull", "$pop"];

impl Update {
    /// Reads an update; `None` when no key starts with `$`, which makes it a full record.
    ///
    /// # Errors
    /// `bad_operand`, `bad_path`, `unknown_operator`, `conflicting_paths`, `too_complex`, and for `$pull` those of
    /// [`Filter::parse`](crate::Filter::parse).
    pub fn parse(update: &Value) -> Result<Option<Self>, FilterError> {
        let Value::Object(operators) = update else {
            let found = type_name(update);
            return Err(FilterError::operand(format!("an update must be an object, found {found}")));
        };
        if !operators.keys().any(|key| key.starts_with('$')) {
            return Ok(None);
        }
        let mut changes = Vec::new();
        for (name, fields) in operators {
            if !name.starts_with('$') {
                return Err(FilterError::operand(format!(
                    "the field `{}` stands beside update operators; send either a full record or operators only",
                    name.escape_debug()
                )));
            }
            let Some(operator) = OPERATORS.iter().find(|known| *known == name) else {
                return Err(FilterError::unknown_operator(name, "in the update", &OPERATORS));
            };
            let Value::Object(fields) = fields else {
                return Err(bad(operator, "an object from path to value", fields));
            };
            for (path, operand) in fields {
                let place = format!("{operator}` at `{}", path.escape_debug());
                let path = Path::parse(path)?;
                changes.push(Change { operator, path, action: action(operator, operand, &place)? });
            }
        }
        if changes.len() > MAX_CHANGES {
            return Err(FilterError::too_complex(format!("the update has more than {MAX_CHANGES} changes")));
        }
        check_conflicts(&changes)?;
        Ok(Some(Self { changes }))
    }
}

/// Changes are applied in no promised order, so none may touch what another writes.
pub(super) fn check_conflicts(changes: &[Change]) -> Result<(), FilterError> {
    let mut paths: Vec<&Path> = changes.iter().flat_map(Change::writes).collect();
    paths.sort();
    // Sorted, a path is followed by those it leads to.
    for (path, next) in paths.iter().zip(paths.iter().skip(1)) {
        if path.overlaps(next) {
            return Err(FilterError::new(
                ErrorCode::ConflictingPaths,
                format!("the update writes both `{path}` and `{next}`; send them in two requests"),
            ));
        }
    }
    Ok(())
}

fn action(operator: &str, operand: &Value, place: &str) -> Result<Action, FilterError> {
    if contains_nul(operand) {
        return Err(FilterError::operand(format!("the value of `{place}` contains a NUL character")));
    }
    let number = || operand.as_number().cloned().ok_or_else(|| bad(place, "a number", operand));
    Ok(match operator {
        "$set" => Action::Set(operand.clone()),
        "$unset" => Action::Unset,
        "$inc" => Action::Inc(number()?),
        "$mul" => Action::Mul(number()?),
        "$min" => Action::Min(operand.clone()),
        "$max" => Action::Max(operand.clone()),
        "$rename" => Action::Rename(rename_target(operand, place)?),
        "$push" => Action::Push(each(operand, place)?),
        "$addToSet" => Action::AddToSet(each(operand, place)?),
        "$pull" => Action::Pull(pull_condition(operand, &format!("of `{place}`"))?),
        _ => match operand.as_f64() {
            Some(1.0) => Action::PopLast,
            Some(-1.0) => Action::PopFirst,
            _ => return Err(bad(place, "1 for the last element or -1 for the first", operand)),
        },
    })
}

fn rename_target(operand: &Value, place: &str) -> Result<Path, FilterError> {
    Path::parse(operand.as_str().ok_or_else(|| bad(place, "the new path as a string", operand))?)
}

/// The values to add: those of `$each`, or the one given.
fn each(operand: &Value, place: &str) -> Result<Vec<Value>, FilterError> {
    let modifiers = operand.as_object().filter(|fields| fields.keys().any(|key| key.starts_with('$')));
    let Some(modifiers) = modifiers else { return Ok(vec![operand.clone()]) };
    if let Some(unknown) = modifiers.keys().find(|key| *key != "$each") {
        return Err(FilterError::unknown_operator(unknown, &format!("in `{place}`"), &["$each"]));
    }
    each_values(modifiers).ok_or_else(|| bad(&format!("$each` in `{place}"), "an array", operand))
}

fn each_values(modifiers: &Map<String, Value>) -> Option<Vec<Value>> {
    modifiers.get("$each")?.as_array().cloned()
}

/// `place` is the operator, and where it stands: `` $inc` at `a.b ``.
fn bad(place: &str, wants: &str, found: &Value) -> FilterError {
    FilterError::operand(format!("`{place}` takes {wants}, found {}", type_name(found)))
}
