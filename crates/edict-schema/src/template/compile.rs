//! From a template as it is written to the rules it means.

use std::cmp::Ordering;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Number, Value};

use super::{Field, Fields, Kind, Pattern, Rule};
use crate::fault::{Fault, Faults, Path, describe, quote_text};
use crate::{number, pattern};

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "any"];

/// Each keyword with the types it is for; none for every type.
const KEYWORDS: [(&str, &[&str]); 11] = [
    ("type", &[]),
    ("description", &[]),
    ("required", &[]),
    ("choices", &[]),
    ("pattern", &["string"]),
    ("length", &["string"]),
    ("min", &["number", "integer"]),
    ("max", &["number", "integer"]),
    ("max_length", &["array"]),
    ("items", &["array"]),
    ("properties", &["object"]),
];

/// What JSON Schema calls things, for those who know it by heart.
const ALIASES: [(&str, &str); 6] = [
    ("minimum", "min"),
    ("maximum", "max"),
    ("enum", "choices"),
    ("maxLength", "length"),
    ("maxItems", "max_length"),
    ("regex", "pattern"),
];

/// Compiles a template that is known to be within the limits of a schema.
pub(crate) fn compile(template: &Map<String, Value>) -> Result<Fields, Vec<Fault>> {
    let mut compiler = Compiler::default();
    let fields = compiler.fields(template, &Path::Root);
    compiler.faults.check().map(|()| fields)
}

#[derive(Default)]
struct Compiler<'v> {
    faults: Faults,
    /// Each pattern is compiled once, however often it is used; `None` for one that doesn't compile.
    patterns: HashMap<&'v str, Option<Regex>>,
}

impl<'v> Compiler<'v> {
    fn fault(&mut self, path: &Path<'_>, message: impl FnOnce() -> String) {
        self.faults.push(path, message);
    }

    fn fields(&mut self, map: &'v Map<String, Value>, path: &Path<'_>) -> Fields {
        let fields = map.iter().filter_map(|(name, definition)| {
            let path = &Path::Key(path, name);
            let Value::Object(definition) = definition else {
                self.fault(path, || not_a_definition(definition, path));
                return None;
            };
            let required = self.boolean(definition, "required", path);
            Some(Field { name: name.as_str().into(), required, rule: self.rule(definition, path) })
        });
        Fields(fields.collect())
    }

    fn rule(&mut self, definition: &'v Map<String, Value>, path: &Path<'_>) -> Rule {
        let kind = self.type_of(definition, path);
        for key in definition.keys() {
            self.keyword(key, kind, &Path::Key(path, key));
        }
        if let Some(other) = definition.get("description").filter(|value| !value.is_string()) {
            self.fault(&Path::Key(path, "description"), || {
                format!("must be a string, got {}", describe(other))
            });
        }
        let kind = match kind {
            Some("string") => Kind::String {
                pattern: self.pattern(definition, path),
                length: self.size(definition, "length", path),
            },
            Some("number") => self.number(definition, false, path),
            Some("integer") => self.number(definition, true, path),
            Some("boolean") => Kind::Boolean,
            Some("array") => Kind::Array {
                max_length: self.size(definition, "max_length", path),
                items: self.items(definition, path),
            },
            Some("object") => Kind::Object(self.properties(definition, path)),
            _ => Kind::Any,
        };
        let mut rule = Rule { kind, choices: None };
        rule.choices = self.choices(definition, &rule, path);
        rule
    }

    /// The type, `any` where none is said; `None` where what is said is no type, after telling so.
    fn type_of(&mut self, definition: &'v Map<String, Value>, path: &Path<'_>) -> Option<&'v str> {
        let known = || format!("a type is one of {}", backticked(&TYPES));
        match definition.get("type") {
            None => Some("any"),
            Some(Value::String(name)) if TYPES.contains(&name.as_str()) => Some(name),
            Some(Value::String(name)) => {
                let hint = suggest(name, &TYPES);
                self.fault(&Path::Key(path, "type"), || {
                    format!("unknown type {}{hint}; {}", quote_text(name), known())
                });
                None
            }
            Some(other) => {
                let message = || format!("must be a string, got {}; {}", describe(other), known());
                self.fault(&Path::Key(path, "type"), message);
                None
            }
        }
    }

    fn keyword(&mut self, key: &str, kind: Option<&str>, path: &Path<'_>) {
        let Some((_, types)) = KEYWORDS.iter().find(|(known, _)| *known == key) else {
            let names = KEYWORDS.map(|(known, _)| known);
            let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
            let hint =
                alias.map_or_else(|| suggest(key, &names), |(_, name)| format!(", did you mean `{name}`?"));
            return self.fault(path, || format!("unknown keyword {}{hint}", quote_text(key)));
        };
        let Some(kind) = kind else { return };
        if types.is_empty() || types.contains(&kind) {
            return;
        }
        let hint = match (key, kind) {
            ("length", "array") => "; for the longest array say `max_length`",
            ("max_length", "string") => "; for the longest string say `length`",
            _ => "",
        };
        self.fault(path, || format!("is only for the type {}, not for `{kind}`{hint}", backticked(types)));
    }

    fn boolean(&mut self, definition: &Map<String, Value>, key: &str, path: &Path<'_>) -> bool {
        match definition.get(key) {
            None => false,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.fault(&Path::Key(path, key), || {
                    format!("must be `true` or `false`, got {}", describe(other))
                });
                false
            }
        }
    }

    fn size(&mut self, definition: &Map<String, Value>, key: &str, path: &Path<'_>) -> Option<usize> {
        let value = definition.get(key)?;
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        if size.is_none() {
            self.fault(&Path::Key(path, key), || {
                format!("must be a whole number, 0 or more, got {}", describe(value))
            });
        }
        size
    }

    fn number(&mut self, definition: &Map<String, Value>, integer: bool, path: &Path<'_>) -> Kind {
        let mut bound = |key: &str| -> Option<Number> {
            let value = definition.get(key)?;
            if !value.is_number() {
                self.fault(&Path::Key(path, key), || format!("must be a number, got {}", describe(value)));
            }
            value.as_number().cloned()
        };
        let (min, max) = (bound("min"), bound("max"));
        if let (Some(min), Some(max)) = (&min, &max)
            && number::compare(min, max) == Ordering::Greater
        {
            self.fault(&Path::Key(path, "min"), || {
                format!("must not be above `max`, got `{min}` and `{max}`")
            });
        }
        Kind::Number { integer, min, max }
    }

    fn pattern(&mut self, definition: &'v Map<String, Value>, path: &Path<'_>) -> Option<Pattern> {
        let path = &Path::Key(path, "pattern");
        let source = match definition.get("pattern")? {
            Value::String(source) => source.as_str(),
            other => {
                self.fault(path, || format!("must be a string, got {}", describe(other)));
                return None;
            }
        };
        if let Some(compiled) = self.patterns.get(source) {
            return compiled.clone().map(|regex| Pattern { source: source.into(), regex });
        }
        let compiled = pattern::compile(source);
        let regex = compiled.as_ref().ok().cloned();
        if let Err(why) = compiled {
            self.fault(path, || format!("the pattern {} {why}", quote_text(source)));
        }
        self.patterns.insert(source, regex.clone());
        regex.map(|regex| Pattern { source: source.into(), regex })
    }

    fn items(&mut self, definition: &'v Map<String, Value>, path: &Path<'_>) -> Option<Box<Rule>> {
        let path = &Path::Key(path, "items");
        let Value::Object(items) = definition.get("items")? else {
            let items = definition.get("items")?;
            self.fault(path, || not_a_definition(items, path));
            return None;
        };
        if items.contains_key("required") {
            self.fault(&Path::Key(path, "required"), || "is only for fields, not for `items`".to_owned());
        }
        Some(Box::new(self.rule(items, path)))
    }

    fn properties(&mut self, definition: &'v Map<String, Value>, path: &Path<'_>) -> Fields {
        let path = &Path::Key(path, "properties");
        match definition.get("properties") {
            None => Fields::default(),
            Some(Value::Object(map)) => self.fields(map, path),
            Some(other) => {
                self.fault(path, || {
                    format!("must be an object from field to definition, got {}", describe(other))
                });
                Fields::default()
            }
        }
    }

    /// A choice that the rest of the definition forbids could never be made, so it is a mistake.
    fn choices(
        &mut self,
        definition: &Map<String, Value>,
        rule: &Rule,
        path: &Path<'_>,
    ) -> Option<Vec<Value>> {
        let path = &Path::Key(path, "choices");
        let value = definition.get("choices")?;
        let Some(choices) = value.as_array().filter(|choices| !choices.is_empty()) else {
            self.fault(path, || format!("must be an array of one value or more, got {}", describe(value)));
            return None;
        };
        for (index, choice) in choices.iter().enumerate() {
            rule.validate(choice, &Path::Index(path, index), &mut self.faults);
        }
        Some(choices.clone())
    }
}

fn not_a_definition(value: &Value, path: &Path<'_>) -> String {
    // What this is said of most often is a JSON Schema that lacks the marks of one.
    let hint = match path {
        Path::Key(Path::Root, _) => "; if this is a JSON Schema, say so with `$schema`",
        _ => "",
    };
    format!("must be an object such as `{{\"type\": \"string\"}}`, got {}{hint}", describe(value))
}

fn suggest(name: &str, known: &[&str]) -> String {
    crate::fault::nearest(name, known.iter().copied())
        .map(|near| format!(", did you mean `{near}`?"))
        .unwrap_or_default()
}

fn backticked(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
