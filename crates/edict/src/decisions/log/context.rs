//! What of a request's context is recorded. A body may hold megabytes, and whoever may ask must not be able to fill the
//! disk with a few requests.

use serde::Serialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of a context that are recorded as they came.
const MOST: usize = 64 << 10;

/// Fields left out that are named.
const MOST_NAMED: usize = 20;

/// Kept before all others: they say who asked.
const FIRST: [&str; 5] = ["userId", "role", "ipAddress", "roles", "userAgent"];

/// What tells that a context is not whole.
#[derive(Serialize)]
pub(super) struct Cut {
    /// Of the whole context, as it was sent.
    bytes: usize,
    sha256: String,
    /// Fields that are not recorded.
    omitted: Vec<String>,
}

/// The context as it is recorded: whole, or those of its fields that there is room for.
pub(super) fn record(context: Option<&RawValue>) -> (Option<Cow<'_, RawValue>>, Option<Cut>) {
    match context {
        Some(large) if large.get().len() > MOST => cut(large.get()),
        whole => (whole.map(Cow::Borrowed), None),
    }
}

fn cut(text: &str) -> (Option<Cow<'_, RawValue>>, Option<Cut>) {
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut fields = reader.deserialize_map(Fields).unwrap_or_default();
    let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    fields.sort_by_key(|(name, _)| rank(name));
    let (mut room, mut kept, mut omitted) = (MOST, BTreeMap::new(), Vec::new());
    for (name, value) in fields {
        match room.checked_sub(name.len() + value.get().len()) {
            Some(rest) => {
                room = rest;
                kept.insert(name, value);
            }
            None if omitted.len() < MOST_NAMED => omitted.push(crate::shorten(&name)),
            None => {}
        }
    }
    let cut = Cut { bytes: text.len(), sha256: hex::encode(Sha256::digest(text)), omitted };
    (to_raw_value(&kept).ok().map(Cow::Owned), Some(cut))
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}
