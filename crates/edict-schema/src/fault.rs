//! Faults: where something is wrong, and what.

use std::fmt::{self, Write as _};
use std::io;

use serde::Serialize;
use serde_json::Value;

/// How many faults one check tells at most.
pub const MAX_FAULTS: usize = 50;

/// The longest value that a message shows in full, in characters.
const MAX_SHOWN: usize = 60;

/// Something that is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole value. For a missing field, the object that
    /// lacks it.
    pub pointer: String,
    /// What is expected, and what was found.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}`: {}", self.pointer, self.message)
        }
    }
}

/// The faults found so far. Holds no memory until there is one, so that a value without faults costs nothing.
#[derive(Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    pub(crate) fn push(&mut self, path: &Path<'_>, message: impl FnOnce() -> String) {
        if !self.is_full() {
            self.list.push(Fault { pointer: path.to_string(), message: message() });
        }
    }

    /// Whether to stop looking: a caller's array of a million bad items must not cost a million messages.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_FAULTS
    }

    pub(crate) fn check(self) -> Result<(), Vec<Fault>> {
        if self.list.is_empty() { Ok(()) } else { Err(self.list) }
    }
}

impl Extend<Fault> for Faults {
    fn extend<T: IntoIterator<Item = Fault>>(&mut self, faults: T) {
        let room = MAX_FAULTS.saturating_sub(self.list.len());
        self.list.extend(faults.into_iter().take(room));
    }
}

/// The way from the root to the value being looked at; becomes a pointer only when there is a fault to tell.
pub(crate) enum Path<'a> {
    Root,
    /// A pointer that is there already.
    At(&'a str),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::At(pointer) => f.write_str(pointer),
            Self::Key(parent, key) => {
                write!(f, "{parent}/")?;
                key.chars().try_for_each(|c| match c {
                    '~' => f.write_str("~0"),
                    '/' => f.write_str("~1"),
                    c => f.write_char(c),
                })
            }
            Self::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// The value with its kind, for a message about what it should have been.
pub(crate) fn describe(value: &Value) -> String {
    let kind = match value {
        Value::Null => "",
        Value::Bool(_) => "the boolean ",
        Value::Number(_) => "the number ",
        Value::String(_) => "the string ",
        Value::Array(_) => "the array ",
        Value::Object(_) => "the object ",
    };
    format!("{kind}{}", quote(value))
}

/// The value in backticks, shortened. A string stands as it is, without quotes.
pub(crate) fn quote(value: &Value) -> String {
    match value {
        Value::String(text) => quote_text(text),
        other => {
            let mut start = Start(Vec::new());
            // The only error is that the start is full: stopping there also bounds the recursion of writing
            // a deeply nested value, which would otherwise overflow the stack.
            let _ = serde_json::to_writer(&mut start, other);
            quote_text(&String::from_utf8_lossy(&start.0))
        }
    }
}

/// The text in backticks, shortened, with control characters escaped so that it cannot forge lines in a log.
pub(crate) fn quote_text(text: &str) -> String {
    let mut shown = String::from("`");
    for (index, c) in text.chars().enumerate() {
        if index == MAX_SHOWN {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.push('`');
    shown
}

/// Takes the first bytes of what is written: enough for the longest value that is shown, whatever the width
/// of its characters.
struct Start(Vec<u8>);

impl Start {
    const BYTES: usize = 4 * (MAX_SHOWN + 1);
}

impl io::Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = Self::BYTES.saturating_sub(self.0.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.0.extend_from_slice(taken);
        if taken.len() == bytes.len() { Ok(bytes.len()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The known name that `name` is most likely a misspelling of.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let near = known.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let (distance, candidate) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= candidate.chars().count().div_ceil(3)).then_some(candidate)
}
