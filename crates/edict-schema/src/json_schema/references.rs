//! The references of a JSON Schema, and how much there is to it once they are followed.
//!
//! 40 definitions that each refer twice to the next make 2⁴⁰ checks of one value, so what a schema comes to is
//! counted when it is compiled. That takes references that can be followed here: JSON pointers into the schema.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::fault::{Fault, Faults, Path, quote_text};

/// Values of a schema with its references replaced by what they refer to.
const MAX_EXPANSION: usize = 20_000;

/// Keywords that apply several schemas to one value. In a schema that refers to itself, the number of times a
/// value is looked at could double with each level.
const FANNING: [&str; 15] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependencies",
    "patternProperties",
    "propertyNames",
    "contains",
    "prefixItems",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// What may stand beside a `$ref` without applying a second schema to the same value.
const BESIDE_REFERENCE: [&str; 10] = [
    "$ref",
    "$schema",
    "$defs",
    "definitions",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
];

/// Refuses references that lead out of the schema or nowhere, and schemas that come to too much. `Ok(true)` if
/// collecting all faults of an instance takes a time in proportion to the instance; `Ok(false)` where the schema
/// refers to itself in ways for which the library only finds whether an instance is valid in bounded time.
pub(super) fn check(schema: &Value) -> Result<bool, Vec<Fault>> {
    let draft_4 =
        schema.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"));
    let id = if draft_4 { "id" } else { "$id" };
    let mut references = References {
        schema,
        id,
        sizes: HashMap::new(),
        recurses: false,
        fans: false,
        faults: Faults::default(),
    };
    if references.size(schema, &Path::Root) > MAX_EXPANSION {
        references.faults.push(&Path::Root, || {
            format!("comes to more than {MAX_EXPANSION} values once its references are followed")
        });
    }
    let explains = !(references.recurses && references.fans);
    references.faults.check().map(|()| explains)
}

struct References<'v> {
    schema: &'v Value,
    id: &'static str,
    /// By the value's address; 0 while it is being counted.
    sizes: HashMap<*const Value, usize>,
    recurses: bool,
    fans: bool,
    faults: Faults,
}

impl<'v> References<'v> {
    fn size(&mut self, value: &'v Value, path: &Path<'_>) -> usize {
        let key = std::ptr::from_ref(value);
        if let Some(size) = self.sizes.get(&key) {
            self.recurses |= *size == 0;
            return *size;
        }
        self.sizes.insert(key, 0);
        let mut total = 1_usize;
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    total = total.saturating_add(self.size(item, &Path::Index(path, index)));
                }
            }
            Value::Object(map) => {
                for (name, inner) in map {
                    let size = self.size(inner, &Path::Key(path, name));
                    // Definitions cost nothing until something refers to them.
                    let defines =
                        matches!(path, Path::Root) && matches!(name.as_str(), "$defs" | "definitions");
                    total = total.saturating_add(if defines { 0 } else { size });
                }
                total = total.saturating_add(self.reference(map, path));
            }
            _ => {}
        }
        self.sizes.insert(key, total);
        total
    }

    fn reference(&mut self, map: &'v Map<String, Value>, path: &Path<'_>) -> usize {
        self.fans |= FANNING.iter().any(|keyword| map.contains_key(*keyword));
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if map.get(keyword).is_some_and(Value::is_string) {
                self.faults.push(&Path::Key(path, keyword), || "is not supported; use `$ref`".to_owned());
            }
        }
        if map.get(self.id).is_some_and(Value::is_string) && !matches!(path, Path::Root) {
            self.faults.push(&Path::Key(path, self.id), || "is only for the schema as a whole".to_owned());
        }
        let Some(Value::String(to)) = map.get("$ref") else { return 0 };
        self.fans |= map.keys().any(|key| !BESIDE_REFERENCE.contains(&key.as_str()));
        let path = &Path::Key(path, "$ref");
        match to.strip_prefix('#') {
            Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                match self.schema.pointer(pointer) {
                    Some(target) => self.size(target, &Path::At(pointer)),
                    None => {
                        self.faults
                            .push(path, || format!("refers to {}, where there is nothing", quote_text(to)));
                        0
                    }
                }
            }
            _ => {
                self.faults.push(path, || {
                    let to = quote_text(to);
                    format!(
                        "other documents are not fetched: {to}; refer into this one, as in `#/$defs/name`"
                    )
                });
                0
            }
        }
    }
}
