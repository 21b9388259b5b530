//! JSON as it was sent: members in their order, numbers as their text. A signature is made over text, which ordinary
//! parsing loses.

use crate::error::{ApiError, Code};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// Deepest nesting; parameters of actions are flat.
const DEEPEST: usize = 32;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As it is spelt.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The members of an object, as they are spelt.
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl Json {
    /// Reads a value that is JSON by its syntax; `path` names it in messages.
    ///
    /// # Errors
    /// 400 for what a database or a second parser would read in another way than the one who signed it: two members of
    /// one name, half a surrogate pair, NUL, a number beyond what doubles hold; and for nesting that is too deep.
    pub(super) fn read(raw: &RawValue, path: &str) -> Result<Self, ApiError> {
        Self::read_at(raw, path, DEEPEST)
    }

    fn read_at(raw: &RawValue, path: &str, depth: usize) -> Result<Self, ApiError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(invalid(path, &format!("is nested deeper than {DEEPEST} levels; flatten it")));
        };
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => Self::Text(string(text, path)?),
            Some(b'[') => {
                let items: Vec<&RawValue> =
                    serde_json::from_str(text).map_err(|error| invalid(path, &error.to_string()))?;
                let item = |(index, raw)| Self::read_at(raw, &format!("{path}.{index}"), depth);
                Self::List(items.into_iter().enumerate().map(item).collect::<Result<_, _>>()?)
            }
            Some(b'{') => {
                let member = |(name, raw): (String, &RawValue)| {
                    let path = format!("{path}.{}", crate::shorten(&name));
                    Self::read_at(raw, &path, depth).map(|value| (name, value))
                };
                let Members(members) = Members::read(raw, path)?;
                Self::Object(members.into_iter().map(member).collect::<Result<_, _>>()?)
            }
            _ => Self::Number(number(text, path)?),
        })
    }

    /// What it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The value for a message: short ones as they are, others by what they are.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Bool(value) => format!("`{value}`"),
            Self::Number(text) => format!("`{}`", crate::shorten(text)),
            Self::Text(text) => format!("the string `{}`", crate::shorten(text)),
            other => other.kind().to_owned(),
        }
    }
}

impl<'a> Members<'a> {
    /// Reads an object's members, which must differ in name: which of two counts depends on who reads.
    pub(super) fn read(raw: &'a RawValue, path: &str) -> Result<Self, ApiError> {
        let members: Self =
            serde_json::from_str(raw.get()).map_err(|error| invalid(path, &without_place(&error)))?;
        let mut names = HashSet::new();
        for (name, _) in &members.0 {
            if name.contains('\0') {
                return Err(invalid(path, "has a name that holds a NUL character; remove it"));
            }
            if !names.insert(name.as_str()) {
                let name = crate::shorten(name);
                return Err(invalid(path, &format!("has the member `{name}` twice; send it once")));
            }
        }
        Ok(members)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect).map(Self)
    }
}

fn string(text: &str, path: &str) -> Result<String, ApiError> {
    let string: String = serde_json::from_str(text)
        .map_err(|_| invalid(path, "holds half a surrogate pair, which is no text; send whole characters"))?;
    if string.contains('\0') {
        return Err(invalid(path, "holds a NUL character, which databases cannot store; remove it"));
    }
    Ok(string)
}

fn number(text: &str, path: &str) -> Result<String, ApiError> {
    if text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Ok(text.to_owned());
    }
    Err(invalid(path, &format!("`{}` is too large for a number", crate::shorten(text))))
}

/// A field that cannot be taken; `problem` continues its name.
pub(super) fn invalid(path: &str, problem: &str) -> ApiError {
    let place = if path.is_empty() { "the body".to_owned() } else { format!("field `{path}`") };
    ApiError::new(Code::InvalidField, format!("{place} {problem}")).details(json!({"field": path}))
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    format!("cannot be read: {}", text.split(" at line ").next().unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Json, ApiError> {
        Json::read(serde_json::from_str(text).unwrap(), "actionParams")
    }

    #[test]
    fn numbers_keep_their_text_and_members_their_order() {
        let value =
            read(r#" {"b": [1.0, -0, 1E5, 9007199254740993], "a": {"\u00e9": "\ud83d\ude00"}} "#).unwrap();
        let number = |text: &str| Json::Number(text.to_owned());
        let list = Json::List(["1.0", "-0", "1E5", "9007199254740993"].map(number).to_vec());
        let inner = Json::Object(vec![("é".to_owned(), Json::Text("😀".to_owned()))]);
        assert_eq!(value, Json::Object(vec![("b".to_owned(), list), ("a".to_owned(), inner)]));
    }

    #[test]
    fn what_two_parsers_would_read_differently_is_refused() {
        for (text, said) in [
            (r#"{"a": 1, "a": 2}"#, "member `a` twice"),
            (r#"{"a": 1, "\u0061": 2}"#, "member `a` twice"),
            (r#"{"x": {"a": 1, "a": 1}}"#, "`actionParams.x` has the member `a` twice"),
            (r#"{"x": ["\ud83d"]}"#, "`actionParams.x.0` holds half a surrogate pair"),
            (r#"{"x": "a\u0000b"}"#, "NUL"),
            (r#"{"\u0000": 1}"#, "NUL"),
            (r#"{"x": 1e400}"#, "`1e400` is too large"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), Code::InvalidField);
            assert!(error.message().contains(said), "{text}: {}", error.message());
        }
        let deep = format!("{}1{}", "[".repeat(DEEPEST + 1), "]".repeat(DEEPEST + 1));
        assert!(read(&deep).unwrap_err().message().contains("deeper than 32"));
    }
}
