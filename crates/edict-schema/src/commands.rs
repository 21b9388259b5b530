//! The management commands of a policy.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::Schema;
use crate::fault::{Fault, Faults, Path, describe, nearest, quote_text};

const KEYS: [&str; 3] = ["name", "description", "schema"];
const MAX_COMMANDS: usize = 1_000;

/// The compiled `management_commands_schema` of a policy: a list of `{name, description, schema}`. Cloning it is
/// cheap.
#[derive(Debug, Clone)]
pub struct Commands {
    by_name: Arc<BTreeMap<String, Schema>>,
}

/// Why a management command is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandFault {
    /// The policy lists its commands, and this is none of them.
    UnknownAction {
        /// What was asked for, and what there is.
        message: String,
    },
    /// The data doesn't fit the command's schema. Pointers are into the data.
    Data(Vec<Fault>),
}

impl fmt::Display for CommandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAction { message } => f.write_str(message),
            Self::Data(faults) => {
                f.write_str("the data does not fit the command's schema")?;
                faults.iter().enumerate().try_for_each(|(index, fault)| {
                    write!(f, "{} {fault}", if index == 0 { ":" } else { ";" })
                })
            }
        }
    }
}

impl std::error::Error for CommandFault {}

impl Commands {
    /// Compiles the list, or says everything (up to [`MAX_FAULTS`](crate::MAX_FAULTS)) that is wrong with it, with
    /// pointers into the list. `name` is required and unique, `description` a string, and `schema` what [`Schema::compile`]
    /// takes, `{}` if absent.
    pub fn compile(commands: &Value) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let mut by_name = BTreeMap::new();
        match commands {
            Value::Array(list) if list.len() > MAX_COMMANDS => {
                faults.push(&Path::Root, || format!("must list at most {MAX_COMMANDS} commands"));
            }
            Value::Array(list) => {
                for (index, command) in list.iter().enumerate() {
                    add(command, &Path::Index(&Path::Root, index), &mut by_name, &mut faults);
                }
            }
            other => faults.push(&Path::Root, || {
                format!(
                    "must be an array of `{{\"name\", \"description\", \"schema\"}}`, got {}",
                    describe(other)
                )
            }),
        }
        faults.check().map(|()| Self { by_name: Arc::new(by_name) })
    }

    /// Whether no command is listed, in which case every action is allowed, with any data.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Checks that `action` is listed and that `data` fits its schema.
    pub fn validate(&self, action: &str, data: &Value) -> Result<(), CommandFault> {
        match self.by_name.get(action) {
            Some(schema) => schema.validate(data).map_err(CommandFault::Data),
            None if self.is_empty() => Ok(()),
            None => Err(CommandFault::UnknownAction { message: self.unknown(action) }),
        }
    }

    fn unknown(&self, action: &str) -> String {
        const SHOWN: usize = 10;
        // Comparing takes time by the product of the lengths, and the caller chose one of them.
        let near =
            if action.len() > 200 { None } else { nearest(action, self.by_name.keys().map(String::as_str)) };
        let hint = match near {
            Some(near) => format!("did you mean {}?", quote_text(near)),
            None => {
                let mut names: Vec<_> =
                    self.by_name.keys().take(SHOWN).map(|name| quote_text(name)).collect();
                if let Some(more) = self.by_name.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                    names.push(format!("{more} more"));
                }
                format!("there is {}", names.join(", "))
            }
        };
        format!("unknown command {}; {hint}", quote_text(action))
    }
}

fn add(command: &Value, path: &Path<'_>, by_name: &mut BTreeMap<String, Schema>, faults: &mut Faults) {
    let Value::Object(command) = command else {
        return faults.push(path, || {
            format!("must be an object with `name`, `description` and `schema`, got {}", describe(command))
        });
    };
    for key in command.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let hint = nearest(key, KEYS.into_iter()).map(|near| format!(", did you mean `{near}`?"));
        let hint = hint.unwrap_or_default();
        faults.push(&Path::Key(path, key), || format!("unknown field {}{hint}", quote_text(key)));
    }
    if let Some(other) = command.get("description").filter(|value| !value.is_string()) {
        faults.push(&Path::Key(path, "description"), || format!("must be a string, got {}", describe(other)));
    }
    let schema = schema(command, path, faults);
    let name_path = &Path::Key(path, "name");
    match command.get("name") {
        Some(Value::String(name)) if name.is_empty() => {
            faults.push(name_path, || "must not be empty".to_owned());
        }
        Some(Value::String(name)) => {
            if by_name.insert(name.clone(), schema).is_some() {
                faults.push(name_path, || format!("must be unique, {} is there twice", quote_text(name)));
            }
        }
        Some(other) => faults.push(name_path, || format!("must be a string, got {}", describe(other))),
        None => faults.push(path, || "must have the field `name`, a string".to_owned()),
    }
}

fn schema(command: &Map<String, Value>, path: &Path<'_>, faults: &mut Faults) -> Schema {
    let Some(schema) = command.get("schema") else { return Schema::anything() };
    Schema::compile(schema).unwrap_or_else(|inner| {
        let path = Path::Key(path, "schema");
        faults.extend(
            inner
                .into_iter()
                .map(|Fault { pointer, message }| Fault { pointer: format!("{path}{pointer}"), message }),
        );
        Schema::anything()
    })
}
