//! What is asked.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::fault::{RequestError, nearest, not_taken, shown};

const FIELDS: [&str; 4] = ["action", "resource", "type", "context"];
const MAX_TEXT: usize = 4_096;
const MAX_ROLES: usize = 256;

/// A request for a decision: an action on a resource, and who asks under which circumstances.
///
/// Of the context, `userId`, `role`, `ipAddress` and `userAgent` are texts, `roles` is a list of texts and `metadata`
/// an object; each may be missing or null. Other fields may hold anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    action: Cow<'a, str>,
    resource: Cow<'a, str>,
    kind: Cow<'a, str>,
    /// Always an object.
    context: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    context: Option<Context>,
}

struct Context(Map<String, Value>);

impl<'a> Request<'a> {
    /// Reads a request from JSON text. Texts without escapes are borrowed from it.
    ///
    /// A field that stands there twice is refused: whoever checked the text before may have read the other one.
    ///
    /// # Errors
    /// When the text is not JSON, or a field is missing, unknown, repeated, of the wrong type, or longer than 4,096
    /// bytes (`roles`: than 256 entries).
    pub fn from_json(text: &'a [u8]) -> Result<Self, RequestError> {
        let wire: Wire<'a> = serde_json::from_slice(text).map_err(|error| diagnose(text, &error))?;
        Self::checked(
            wire.action,
            wire.resource,
            wire.kind,
            wire.context.map(|context| context.0).unwrap_or_default(),
        )
    }

    /// A request from its parts.
    ///
    /// # Errors
    /// When a field of the context is of the wrong type, or a text is too long.
    pub fn new(
        action: impl Into<Cow<'a, str>>,
        resource: impl Into<Cow<'a, str>>,
        kind: impl Into<Cow<'a, str>>,
        context: Map<String, Value>,
    ) -> Result<Self, RequestError> {
        Self::checked(action.into(), resource.into(), kind.into(), context)
    }

    fn checked(
        action: Cow<'a, str>,
        resource: Cow<'a, str>,
        kind: Cow<'a, str>,
        context: Map<String, Value>,
    ) -> Result<Self, RequestError> {
        for (field, text) in [("action", &action), ("resource", &resource), ("type", &kind)] {
            if text.is_empty() || text.len() > MAX_TEXT {
                return Err(RequestError::new(
                    field,
                    &format!("has {} bytes; it takes 1 to {MAX_TEXT}", text.len()),
                ));
            }
        }
        check_context(&context)?;
        Ok(Self { action, resource, kind, context: Value::Object(context) })
    }

    /// Puts a text into a field of the context that is missing or null; tells whether it was.
    pub fn fill_in(&mut self, field: &str, text: impl FnOnce() -> String) -> bool {
        match &mut self.context {
            Value::Object(context) if context.get(field).is_none_or(Value::is_null) => {
                context.insert(field.to_owned(), Value::String(text()));
                true
            }
            _ => false,
        }
    }

    /// What is to be done.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// What it is to be done to.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The `type`, `self_healing` for instance.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Who asks, and under which circumstances: always an object.
    pub fn context(&self) -> &Value {
        &self.context
    }
}

/// A role that is a number must not pass for "no role": a deny would then not see it.
fn check_context(context: &Map<String, Value>) -> Result<(), RequestError> {
    for (field, value) in context {
        let wrong = match (field.as_str(), value) {
            ("userId" | "role" | "ipAddress" | "userAgent", Value::String(text)) => {
                too_many("bytes", text.len(), MAX_TEXT)
            }
            ("roles", Value::Array(roles)) if roles.iter().all(Value::is_string) => {
                too_many("entries", roles.len(), MAX_ROLES)
            }
            (_, Value::Null) | ("metadata", Value::Object(_)) => None,
            ("userId" | "role" | "ipAddress" | "userAgent", _) => Some(not_taken(value, "a text")),
            ("roles", _) => Some(not_taken(value, "a list of texts")),
            ("metadata", _) => Some(not_taken(value, "an object")),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(RequestError::new(&format!("context.{field}"), &wrong));
        }
    }
    Ok(())
}

fn too_many(what: &str, found: usize, most: usize) -> Option<String> {
    (found > most).then(|| format!("has {found} {what}; it takes at most {most}"))
}

/// Says which field the parser stumbled over. Only for what is refused, so it may take its time.
fn diagnose(text: &[u8], error: &serde_json::Error) -> RequestError {
    let other = |message: String| RequestError { field: None, message };
    let fields = match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => {
            return other(
                "the request is not an object; it takes `action`, `resource`, `type` and `context`".into(),
            );
        }
        Err(error) => return other(format!("the request is not valid JSON: {error}")),
    };
    if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let message = format!("is not a field of a request; {}", nearest(unknown, &FIELDS));
        return RequestError::new(&shown(unknown), &message);
    }
    for field in ["action", "resource", "type"] {
        match fields.get(field) {
            None => return RequestError::new(field, "is missing; it takes a text"),
            Some(value) if !value.is_string() => return RequestError::takes(field, value, "a text"),
            Some(_) => {}
        }
    }
    match fields.get("context") {
        Some(value) if !value.is_object() && !value.is_null() => {
            RequestError::takes("context", value, "an object")
        }
        _ => other(format!("the request is not valid: {error}")),
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ContextVisitor).map(Self)
    }
}

struct ContextVisitor;

impl<'de> de::Visitor<'de> for ContextVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some((key, value)) = access.next_entry::<String, Value>()? {
            if fields.contains_key(&key) {
                return Err(de::Error::custom(format!("duplicate field `context.{}`", shown(&key))));
            }
            fields.insert(key, value);
        }
        Ok(fields)
    }
}
