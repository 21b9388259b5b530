//! Source text: what encodings are taken.

use super::BundleError;

/// The text of a Python file: UTF-8, without NUL, not declared to be in another encoding (PEP 263).
/// A byte order mark is taken off.
pub(super) fn decode(file: &str, bytes: &[u8]) -> Result<String, BundleError> {
    let bad = |reason: String| BundleError::BadEncoding { file: file.to_owned(), reason };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| bad(format!("is not UTF-8 (byte {})", error.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find('\0') {
        return Err(bad(format!("holds a NUL character (byte {at})")));
    }
    if let Some(name) = declared_encoding(text)
        && !is_utf8(name)
    {
        return Err(bad(format!("declares the encoding `{name}`")));
    }
    Ok(text.to_owned())
}

/// The encoding named in a comment on the first two lines; the second counts only after a line without code.
fn declared_encoding(text: &str) -> Option<&str> {
    let mut lines = text.split(['\n', '\r', '\u{c}']).take(2);
    let first = lines.next()?.trim_start_matches([' ', '\t']);
    if let Some(name) = encoding_in(first) {
        return Some(name);
    }
    if !first.is_empty() && !first.starts_with('#') {
        return None;
    }
    encoding_in(lines.next()?.trim_start_matches([' ', '\t']))
}

fn encoding_in(line: &str) -> Option<&str> {
    let comment = line.strip_prefix('#')?;
    comment.match_indices("coding").find_map(|(at, word)| {
        let rest = comment.get(at + word.len()..)?.strip_prefix([':', '='])?.trim_start_matches([' ', '\t']);
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(rest.len());
        rest.get(..end).filter(|name| !name.is_empty())
    })
}

fn is_utf8(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    name == "utf8" || name == "utf-8" || name.starts_with("utf-8-")
}
