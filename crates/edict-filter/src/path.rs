//! Dotted paths, and the walk that gives them Mongo's meaning.

use serde_json::Value;

use crate::{ErrorCode, FilterError};

/// More steps than this would exceed the 64 tables SQLite can join.
const MAX_SEGMENTS: usize = 20;
const MAX_BYTES: usize = 1_000;

/// A dotted path such as `executor_metadata.tags.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    segments: Vec<Segment>,
}

/// One step of a path: a key of an object, and also an index of an array when it is a number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) key: String,
    pub(crate) index: Option<u32>,
}

impl Path {
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            FilterError::new(ErrorCode::BadPath, format!("field path `{}` {why}", shown.escape_debug()))
        };
        if text.len() > MAX_BYTES {
            return Err(bad(&format!("is longer than {MAX_BYTES} bytes")));
        }
        // PostgreSQL can neither store nor compare a NUL character.
        if text.contains('\0') {
            return Err(bad("contains a NUL character"));
        }
        let segments: Vec<Segment> = text.split('.').map(Segment::new).collect();
        if segments.len() > MAX_SEGMENTS {
            return Err(bad(&format!("has more than {MAX_SEGMENTS} parts")));
        }
        if segments.iter().any(|segment| segment.key.is_empty()) {
            return Err(bad("has an empty part; write field names separated by single dots"));
        }
        if segments.iter().any(|segment| segment.key.starts_with('$')) {
            return Err(bad("has a part that starts with `$`; positional operators are not supported"));
        }
        Ok(Self { segments })
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether one path is the other or leads to it.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.segments.iter().zip(&other.segments).all(|(a, b)| a == b)
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, segment) in self.segments.iter().enumerate() {
            f.write_str(if position == 0 { "" } else { "." })?;
            f.write_str(&segment.key)?;
        }
        Ok(())
    }
}

impl Segment {
    fn new(key: &str) -> Self {
        // `01` and `+1` are keys only: an array's index is written in one way.
        let index = key.parse::<i32>().ok().and_then(|index| u32::try_from(index).ok());
        let index = index.filter(|index| index.to_string() == key);
        Self { key: key.to_owned(), index }
    }
}

/// Whether `test` holds for a value that `path` leads to; `None` stands for a missing one.
///
/// A key applied to an array is applied to each object in it, and, when it is a number, picks that element.
/// An array at the end of the path is tested by element and as a whole, or only as a whole unless `expand`;
/// one picked by its index is tested as a whole.
pub(crate) fn any(
    value: &Value,
    path: &[Segment],
    expand: bool,
    test: &dyn Fn(Option<&Value>) -> bool,
) -> bool {
    let Some((segment, rest)) = path.split_first() else {
        let elements = value.as_array().filter(|_| expand);
        return test(Some(value)) || elements.is_some_and(|items| items.iter().any(|item| test(Some(item))));
    };
    match value {
        Value::Object(fields) => match fields.get(&segment.key) {
            Some(field) => any(field, rest, expand, test),
            None => test(None),
        },
        Value::Array(items) => items.iter().zip(0u32..).any(|(item, position)| {
            let picked = segment.index == Some(position);
            (item.is_object() && any(item, path, expand, test))
                || (picked && rest.is_empty() && test(Some(item)))
                || (picked && !rest.is_empty() && is_container(item) && any(item, rest, expand, test))
        }),
        _ => test(None),
    }
}

fn is_container(value: &Value) -> bool {
    value.is_object() || value.is_array()
}
