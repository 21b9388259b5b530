//! Patterns, the same in templates and in JSON Schema.

use regex::{Regex, RegexBuilder};

/// Bytes of one compiled pattern, and of the states that matching it keeps.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Compiles a pattern of JSON Schema's dialect (ECMA-262, so `\d` is `[0-9]`), matched in linear time. The error continues a sentence that
/// begins with the pattern.
pub(crate) fn compile(source: &str) -> Result<Regex, String> {
    let Ok(translated) = jsonschema_regex::to_rust_regex(source) else {
        return Err(
            Regex::new(source).map_or_else(|error| why(&error), |_| "is not a valid pattern".to_owned())
        );
    };
    let mut builder = RegexBuilder::new(&translated);
    builder.size_limit(MAX_BYTES).dfa_size_limit(MAX_BYTES);
    builder.build().map_err(|error| why(&error))
}

fn why(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("is too large: compiled it takes more than {limit} bytes");
    }
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    if reason.contains("look-around") {
        return "uses look-around, which is not supported: patterns are matched in linear time".to_owned();
    }
    if reason.contains("backreference") {
        return "uses backreferences, which are not supported: patterns are matched in linear time"
            .to_owned();
    }
    format!("does not compile: {reason}")
}
