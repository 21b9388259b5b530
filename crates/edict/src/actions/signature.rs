//! Signatures: whether a request's is one that the key's holder has made for it.
//!
//! A signature is the HMAC of *text*, and what arrives is the same JSON in possibly other text. So every form is tried
//! in which the signed fields may have been written: as Python and JavaScript write them by default, and what else their
//! options lead to. docs/operations.md lists the forms under "Signing".

use super::json::Json;
use super::number;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::collections::BTreeSet;
use subtle::{Choice, ConstantTimeEq};

/// One field of the signed object.
pub(super) type Field<'a> = (&'a str, &'a Json);

/// In which way the text is written.
#[derive(Clone, Copy)]
struct Form {
    /// `", "` and `": "`, Python's default, or none as JavaScript.
    spaced: bool,
    /// Whether everything beyond ASCII is escaped, Python's default.
    ascii: bool,
    order: Order,
    number: fn(&str) -> String,
}

#[derive(Clone, Copy)]
enum Order {
    AsGiven,
    /// `sort_keys=True`.
    ByCodePoint,
    /// JavaScript's `sort`, and RFC 8785.
    ByCodeUnit,
}

/// Whether `signature` (64 hex digits) signs one of the `versions` of an object's fields with `key`.
///
/// Every form of every version is compared, in constant time and without an end at the first that fits: how long it
/// takes tells nothing about a signature that would be right.
pub(super) fn verify(key: &str, versions: &[Vec<Field<'_>>], signature: &str) -> bool {
    let mut presented = [0; 32];
    if hex::decode_to_slice(signature, &mut presented).is_err() {
        return false;
    }
    let mut fits = Choice::from(0);
    for text in texts(versions) {
        fits |= mac(key, &text).as_slice().ct_eq(&presented);
    }
    fits.into()
}

/// The text of an object in the form that needs the least explaining, Python's `json.dumps`, and its signature.
pub(super) fn sign(key: &str, fields: &[Field<'_>]) -> (String, String) {
    let form = Form { spaced: true, ascii: true, order: Order::AsGiven, number: str::to_owned };
    let text = form.object(fields.iter().copied());
    let signature = hex::encode(mac(key, &text));
    (text, signature)
}

#[expect(clippy::expect_used, reason = "a key may have any length")]
fn mac(key: &str, text: &str) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key may have any length");
    mac.chain_update(text).finalize().into_bytes().into()
}

/// All texts that may have been signed; most requests have only a few that differ.
fn texts(versions: &[Vec<Field<'_>>]) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for fields in versions {
        for spaced in [true, false] {
            for ascii in [true, false] {
                for order in [Order::AsGiven, Order::ByCodePoint, Order::ByCodeUnit] {
                    for number in [str::to_owned, number::python, number::javascript] {
                        let form = Form { spaced, ascii, order, number };
                        texts.insert(form.object(fields.iter().copied()));
                    }
                }
            }
        }
    }
    texts
}

impl Form {
    fn object<'a>(&self, fields: impl Iterator<Item = Field<'a>>) -> String {
        let mut text = String::new();
        self.write_object(fields, &mut text);
        text
    }

    fn write(&self, value: &Json, text: &mut String) {
        match value {
            Json::Null => text.push_str("null"),
            Json::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => text.push_str(&(self.number)(number)),
            Json::Text(string) => self.write_string(string, text),
            Json::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, text);
                    self.write(item, text);
                }
                text.push(']');
            }
            Json::Object(members) => {
                self.write_object(members.iter().map(|(name, value)| (name.as_str(), value)), text);
            }
        }
    }

    fn write_object<'a>(&self, fields: impl Iterator<Item = Field<'a>>, text: &mut String) {
        let mut fields: Vec<Field<'_>> = fields.collect();
        match self.order {
            Order::AsGiven => {}
            Order::ByCodePoint => fields.sort_by_key(|(name, _)| *name),
            Order::ByCodeUnit => fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16())),
        }
        text.push('{');
        for (index, (name, value)) in fields.into_iter().enumerate() {
            self.separate(index, text);
            self.write_string(name, text);
            text.push_str(if self.spaced { ": " } else { ":" });
            self.write(value, text);
        }
        text.push('}');
    }

    fn separate(&self, index: usize, text: &mut String) {
        if index > 0 {
            text.push_str(if self.spaced { ", " } else { "," });
        }
    }

    /// Both languages escape the same characters in the same way, but for what is beyond ASCII, and DEL.
    fn write_string(&self, string: &str, text: &mut String) {
        text.push('"');
        for letter in string.chars() {
            match letter {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                ' '..='~' => text.push(letter),
                '\u{20}'.. if !self.ascii => text.push(letter),
                _ => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn read(text: &str) -> Json {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        Json::read(raw, "").unwrap()
    }

    fn fields(object: &Json) -> Vec<Field<'_>> {
        let Json::Object(members) = object else { panic!("not an object") };
        members.iter().map(|(name, value)| (name.as_str(), value)).collect()
    }

    #[test]
    fn the_forms_are_those_of_python_and_javascript() {
        let object =
            read(r#"{"b": [1.0, 1e16, {}], "a": {"ü": "\u007f\b\u0001\"\\/", "😀": null, "\uffff": true}}"#);
        let texts = texts(&[fields(&object)]);
        for expected in [
            // json.dumps(x)
            r#"{"b": [1.0, 1e+16, {}], "a": {"\u00fc": "\u007f\b\u0001\"\\/", "\ud83d\ude00": null, "\uffff": true}}"#,
            // json.dumps(x, sort_keys=True)
            r#"{"a": {"\u00fc": "\u007f\b\u0001\"\\/", "\uffff": true, "\ud83d\ude00": null}, "b": [1.0, 1e+16, {}]}"#,
            // JSON.stringify(x)
            "{\"b\":[1,10000000000000000,{}],\"a\":{\"ü\":\"\u{7f}\\b\\u0001\\\"\\\\/\",\"😀\":null,\"\u{ffff}\":true}}",
            // RFC 8785
            "{\"a\":{\"ü\":\"\u{7f}\\b\\u0001\\\"\\\\/\",\"😀\":null,\"\u{ffff}\":true},\"b\":[1,10000000000000000,{}]}",
        ] {
            assert!(texts.contains(expected), "{expected} is not among {texts:#?}");
        }
    }

    #[test]
    fn plain_requests_have_few_forms() {
        let object = read(
            r#"{"actionType": "restart_pod", "actionParams": {"namespace": "a", "podName": "b"}, "requestedBy": "c"}"#,
        );
        assert_eq!(texts(&[fields(&object)]).len(), 4);
    }

    #[test]
    fn a_signature_is_for_one_text_and_one_key() {
        let object = read(r#"{"a": 1, "b": "x"}"#);
        let (text, signature) = sign("secret", &fields(&object));
        assert_eq!(text, r#"{"a": 1, "b": "x"}"#);
        let verify = |key, object: &Json, signature: &str| verify(key, &[fields(object)], signature);
        assert!(verify("secret", &object, &signature));
        assert!(verify("secret", &object, &signature.to_uppercase()));
        assert!(verify("secret", &read(r#"{"a":1,"b":"\u0078"}"#), &signature));
        assert!(!verify("other", &object, &signature));
        assert!(!verify("secret", &read(r#"{"a": 2, "b": "x"}"#), &signature));
        assert!(!verify("secret", &read(r#"{"a": 1}"#), &signature));
        for wrong in ["", "zz", &signature[..62], &format!("{signature}00"), &"0".repeat(64)] {
            assert!(!verify("secret", &object, wrong), "{wrong}");
        }
    }
}
