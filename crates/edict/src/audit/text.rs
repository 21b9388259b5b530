//! What is kept of text that came from outside: all of it where it is sane, and enough to recognise it where it is not.
//! Rejected requests are kept, too, and an attacker chooses what is in them.

use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Longest JSON text that is kept whole, in bytes.
pub(crate) const MOST_JSON: usize = 64 << 10;

/// Longest name.
const MOST_NAME: usize = 256;

/// Longest message.
const MOST_MESSAGE: usize = 4096;

/// What is kept of JSON text that is too long, in bytes.
const START: usize = 1024;

/// A name as it is kept: at most 256 characters, control characters spelt out (PostgreSQL takes no NUL, and a terminal
/// obeys some of the others).
pub(super) fn name(text: &str) -> String {
    cut(text, MOST_NAME)
}

/// A message as it is kept: at most 4096 characters.
pub(super) fn message(text: &str) -> String {
    cut(text, MOST_MESSAGE)
}

fn cut(text: &str, most: usize) -> String {
    let mut kept = String::new();
    let mut letters = text.chars();
    for letter in letters.by_ref().take(most) {
        if letter.is_control() {
            kept.extend(letter.escape_default());
        } else {
            kept.push(letter);
        }
    }
    if letters.next().is_some() {
        kept.push('…');
    }
    kept
}

/// JSON as it is kept: its exact text, or what it began with, how long it was and its SHA-256.
pub(super) fn json(raw: &RawValue) -> String {
    let text = raw.get();
    if text.len() <= MOST_JSON {
        return text.to_owned();
    }
    let end = (0..=START).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    json!({
        "cut": true,
        "bytes": text.len(),
        "sha256": hex::encode(Sha256::digest(text.as_bytes())),
        "start": text.get(..end),
    })
    .to_string()
}

/// Kept JSON for a reply; what somebody made of it who could write into the database is shown as text.
pub(super) fn shown(kept: Option<String>) -> Option<Box<RawValue>> {
    let kept = kept?;
    RawValue::from_string(kept)
        .or_else(|_| RawValue::from_string("\"(not JSON: this entry was changed)\"".to_owned()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_text_is_kept_and_hostile_text_is_cut_and_spelt_out() {
        assert_eq!(name("ai-engine ü"), "ai-engine ü");
        assert_eq!(name("a\0b\u{1b}[2J"), "a\\u{0}b\\u{1b}[2J");
        let long = name(&"ü".repeat(1 << 20));
        assert_eq!(long.chars().count(), 257);
        let raw = RawValue::from_string(" {\"a\":  1.50}".trim().to_owned()).unwrap();
        assert_eq!(json(&raw), "{\"a\":  1.50}");
        let raw = RawValue::from_string(format!("\"{}\"", "ü".repeat(1 << 16))).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&json(&raw)).unwrap();
        assert_eq!(kept["bytes"], 2 + 2 * (1 << 16));
        assert_eq!(kept["start"].as_str().unwrap().len(), 1023);
    }
}
