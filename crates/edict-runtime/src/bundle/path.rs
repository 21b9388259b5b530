//! Names of archive entries: what is safe, what is ignored.

use super::BundleError;

/// Longest path and longest part of one, in bytes: what file systems take.
const PATH_LIMIT: usize = 1024;
const PART_LIMIT: usize = 255;

/// The path in plain form (`a/b`, no `.`, no empty part), empty for the archive's top itself.
///
/// Refuses every name that one operating system or another could take as leading out of the folder it is
/// unpacked into: absolute, with `..`, with a drive letter, with a backslash.
pub(super) fn normalise(raw: &[u8]) -> Result<String, BundleError> {
    let unsafe_path = |reason| BundleError::UnsafePath { entry: shown(raw), reason };
    let name = std::str::from_utf8(raw).map_err(|_| unsafe_path("it is not UTF-8"))?;
    if name.is_empty() {
        return Err(unsafe_path("it is empty"));
    }
    if name.len() > PATH_LIMIT {
        return Err(unsafe_path("it is longer than 1024 bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(unsafe_path("it holds a control character"));
    }
    if name.contains('\\') {
        return Err(unsafe_path("it holds a backslash"));
    }
    if name.starts_with('/') {
        return Err(unsafe_path("it is absolute"));
    }
    if matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        return Err(unsafe_path("it starts with a drive letter"));
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(unsafe_path("it holds `..`")),
            _ if part.len() > PART_LIMIT => return Err(unsafe_path("a part is longer than 255 bytes")),
            _ => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// What desktops and interpreters leave behind; it is checked like the rest, but not unpacked.
pub(super) fn ignored(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "__MACOSX" | "__pycache__" | ".DS_Store"))
}

/// A name fit for a message: control characters escaped, not too long.
pub(super) fn shown(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if text.chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}
