//! JSON in arguments: as it stands, from a file (`@file`) or from stdin (`-`).

use super::failure::Failure;
use edict_client::records::Object;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::io::Read;

/// The JSON that an argument gives or points at; its text is kept, so that numbers keep every digit.
pub(crate) fn read(option: &str, argument: &str) -> Result<Box<RawValue>, Failure> {
    let (text, place) = match argument.strip_prefix('@') {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::failed(format!("cannot read `{path}` for {option}: {error}")))?;
            (text, format!("`{path}`"))
        }
        None if argument == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::failed(format!("cannot read stdin for {option}: {error}")))?;
            (text, "stdin".to_owned())
        }
        None => (argument.to_owned(), format!("`{argument}`")),
    };
    RawValue::from_string(text.trim().to_owned()).map_err(|error| {
        Failure::usage(format!("{option}: {place} is not JSON: {error}"))
            .note("hint", "quote it for the shell: '{\"ip\": \"10.0.0.1\"}', or use @file, or - for stdin")
    })
}

/// A JSON object.
pub(crate) fn read_object(option: &str, argument: &str) -> Result<Object, Failure> {
    let raw = read(option, argument)?;
    serde_json::from_str(raw.get())
        .map_err(|_| Failure::usage(format!("{option}: `{}` is not a JSON object", shorten(raw.get()))))
}

/// A JSON object, if there is an argument.
pub(crate) fn read_optional(option: &str, argument: Option<&str>) -> Result<Option<Object>, Failure> {
    argument.map(|argument| read_object(option, argument)).transpose()
}

/// The fields of a JSON or YAML document in a file, or in stdin (`-`); the text of JSON is kept, as by [`read`].
pub(crate) fn read_document(path: &str) -> Result<BTreeMap<String, Box<RawValue>>, Failure> {
    let text =
        if path == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| Failure::failed(format!("cannot read `{path}`: {error}")))?;
    let faulty = match serde_json::from_str(&text) {
        Ok(fields) => return Ok(fields),
        // A file that says it is JSON is told so; every other may be YAML.
        Err(error) if path.ends_with(".json") => error.to_string(),
        Err(_) => match serde_saphyr::from_str::<Object>(&text) {
            Ok(fields) => return raw_fields(fields),
            Err(error) => error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter),
        },
    };
    Err(Failure::usage(format!("`{path}` does not hold the fields of a request: {faulty}")))
}

fn raw_fields(fields: Object) -> Result<BTreeMap<String, Box<RawValue>>, Failure> {
    let raw = |value: &Value| to_raw_value(value).map_err(|error| Failure::failed(error.to_string()));
    fields.into_iter().map(|(field, value)| Ok((field, raw(&value)?))).collect()
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
