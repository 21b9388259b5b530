//! What a policy's input, output, settings, parameters and management data must look like.
//!
//! A schema is written in one of three ways, told apart by [`Schema::compile`]:
//!
//! | document | meaning |
//! |---|---|
//! | `{}` | anything goes |
//! | `$schema` is a string, or `type` is `"object"` and `properties` is there | a JSON Schema, as it stands |
//! | any other object | a template: a map from field to what the field must be |
//!
//! No template is taken for a JSON Schema by mistake: what a template says of a field is always an object, so
//! a template with a field that is named `type` has an object there, never the string `"object"`.
//!
//! The crate is pure: it never reads a file or opens a connection, and a `$ref` to another document is refused.

mod commands;
mod fault;
mod json_schema;
mod number;
mod pattern;
mod survey;
mod template;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub use commands::{CommandFault, Commands};
pub use fault::{Fault, MAX_FAULTS};

use fault::{Faults, Path, describe};
use json_schema::JsonSchema;
use survey::Survey;
use template::Fields;

/// A compiled schema. Cloning it is cheap, and clones share what was compiled.
#[derive(Clone)]
pub struct Schema {
    inner: Arc<Inner>,
}

enum Inner {
    Anything,
    Template(Fields),
    JsonSchema(Box<JsonSchema>),
}

impl Schema {
    /// Compiles `schema`, or says everything (up to [`MAX_FAULTS`]) that is wrong with it, with pointers into
    /// the schema.
    ///
    /// A schema nests at most 64 levels of JSON (32 objects in one another), holds at most 10,000 values and
    /// 100 different patterns of at most 1,000 characters.
    pub fn compile(schema: &Value) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let survey = Survey::of_schema(schema, &mut faults);
        faults.check()?;
        let Value::Object(map) = schema else {
            let message = format!("a schema must be an object, got {}", describe(schema));
            return Err(vec![Fault { pointer: String::new(), message }]);
        };
        let inner = if map.is_empty() {
            Inner::Anything
        } else if is_json_schema(map) {
            Inner::JsonSchema(Box::new(JsonSchema::compile(schema, &survey)?))
        } else {
            Inner::Template(template::compile(map)?)
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn anything() -> Self {
        Self { inner: Arc::new(Inner::Anything) }
    }

    /// Whether the schema is `{}`, which every instance satisfies.
    pub fn is_empty(&self) -> bool {
        matches!(*self.inner, Inner::Anything)
    }

    /// Checks `instance`, and says everything (up to [`MAX_FAULTS`]) that is wrong with it, with pointers into
    /// the instance.
    ///
    /// A template never looks deeper into the instance than it is deep itself. For a JSON Schema, an instance
    /// that nests more than 128 levels is itself a fault, and of one that holds more than 10,000 values only
    /// the first fault is told.
    pub fn validate(&self, instance: &Value) -> Result<(), Vec<Fault>> {
        match &*self.inner {
            Inner::Anything => Ok(()),
            Inner::JsonSchema(schema) => schema.validate(instance),
            Inner::Template(fields) => {
                let mut faults = Faults::default();
                match instance {
                    Value::Object(map) => fields.validate(map, &Path::Root, &mut faults),
                    other => {
                        faults.push(&Path::Root, || format!("must be an object, got {}", describe(other)))
                    }
                }
                faults.check()
            }
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.inner {
            Inner::Anything => "Schema(anything)",
            Inner::Template(_) => "Schema(template)",
            Inner::JsonSchema(_) => "Schema(JSON Schema)",
        })
    }
}

fn is_json_schema(map: &serde_json::Map<String, Value>) -> bool {
    let typed = map.get("type").and_then(Value::as_str) == Some("object");
    map.get("$schema").is_some_and(Value::is_string) || (typed && map.contains_key("properties"))
}
