//! Code bundles: the archive or source text a policy is made of.
//!
//! A bundle is one of: a `.zip`, `.tar.xz` or `.tar.gz` archive that holds `code/function.py` (a
//! `function.py` at the archive's top is taken too), optionally `requirements.txt` and other modules beside
//! it; or the source text of `function.py` itself. It is known by the SHA-256 of its bytes.
//!
//! INVARIANT (checked before written): every byte of an archive is read and checked in memory, checksums
//! included, before anything of it reaches the disk; sizes that an archive declares are never believed.
//!
//! INVARIANT (no links): an unpacked bundle consists of plain files and folders only, so no path below it
//! can lead anywhere else.

mod archive;
mod error;
mod fetch;
mod pack;
mod path;
mod source;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::str::FromStr;

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use error::BundleError;
pub use fetch::{FetchError, FetchOptions, fetch};
pub use pack::{PackError, pack};
pub use store::{BundleStore, CodeDir, Evicted, StoreError};

use crate::environment::Requirements;

const FUNCTION: &str = "function.py";
const REQUIREMENTS: &str = "requirements.txt";

/// Largest `function.py`, in bytes. Other modules count towards [`Limits::unpacked`] only.
const FUNCTION_LIMIT: u64 = 4 << 20;
/// Largest `requirements.txt`, in bytes.
const REQUIREMENTS_LIMIT: u64 = 256 << 10;

/// How large a bundle may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest archive or source text, in bytes (32 MiB).
    pub packed: u64,
    /// Largest sum of the files' sizes, in bytes (256 MiB).
    pub unpacked: u64,
    /// Most files and folders (10,000), folders that only occur inside a path included.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { packed: 32 << 20, unpacked: 256 << 20, files: 10_000 }
    }
}

impl Limits {
    fn check_packed(&self, len: usize) -> Result<(), BundleError> {
        if len as u64 > self.packed {
            return Err(BundleError::TooLarge { what: "the code".into(), limit: size(self.packed) });
        }
        Ok(())
    }
}

/// What a bundle's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The source text of `function.py`.
    Source,
    /// A zip archive.
    Zip,
    /// A tar archive packed with xz.
    TarXz,
    /// A tar archive packed with gzip.
    TarGz,
}

impl Format {
    /// `source`, `zip`, `tar.xz` or `tar.gz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Zip => "zip",
            Self::TarXz => "tar.xz",
            Self::TarGz => "tar.gz",
        }
    }

    /// The archive format by its first bytes; `None` if they are no known archive's. Names and content
    /// types are not looked at, they are often wrong.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        const ARCHIVES: [(&[u8], Format); 4] = [
            (b"PK\x03\x04", Format::Zip),
            (b"PK\x05\x06", Format::Zip),
            (b"\xfd7zXZ\0", Format::TarXz),
            (b"\x1f\x8b", Format::TarGz),
        ];
        ARCHIVES.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Source, Self::Zip, Self::TarXz, Self::TarGz]
            .into_iter()
            .find(|format| format.as_str() == s)
            .ok_or_else(|| format!("unknown bundle format `{s}`; one of source, zip, tar.xz, tar.gz"))
    }
}

/// A bundle that has been checked in full.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// SHA-256 of `bytes`, lower-case hex.
    pub digest: String,
    /// What `bytes` are.
    pub format: Format,
    /// The archive or the source text as it was given.
    pub bytes: Bytes,
    /// The text of `function.py`, without a byte order mark.
    pub source: String,
    /// What `requirements.txt` asks for; `None` without the file.
    pub requirements: Option<Requirements>,
    /// Number of files.
    pub files: usize,
    /// Sum of the files' sizes, in bytes.
    pub unpacked_size: u64,
}

impl Bundle {
    /// Checks the source text of a `function.py`.
    pub fn from_source(text: &str, limits: &Limits) -> Result<Self, BundleError> {
        Self::source_bytes(Bytes::copy_from_slice(text.as_bytes()), limits)
    }

    /// Checks an archive in full, without writing anything.
    ///
    /// This is processor work, up to a second for the largest archives: call it where blocking is allowed.
    pub fn from_archive(bytes: Bytes, limits: &Limits) -> Result<Self, BundleError> {
        limits.check_packed(bytes.len())?;
        let format = Format::sniff(&bytes).ok_or(BundleError::UnknownFormat)?;
        let mut found = Found::default();
        let totals = archive::walk(&bytes, format, limits, |entry, content| found.look_at(entry, content))?;
        let root = found.root()?;
        let text = found.take(&format!("{root}{REQUIREMENTS}"));
        let requirements = text.map(|text| requirements(&text)).transpose()?;
        let function = format!("{root}{FUNCTION}");
        let source = source::decode(&function, &found.take(&function).unwrap_or_default())?;
        Ok(Self {
            digest: digest(&bytes),
            format,
            bytes,
            source,
            requirements,
            files: totals.files,
            unpacked_size: totals.bytes,
        })
    }

    /// Checks bytes that may be an archive or source text, by their content.
    pub fn from_bytes(bytes: Bytes, limits: &Limits) -> Result<Self, BundleError> {
        if Format::sniff(&bytes).is_some() {
            return Self::from_archive(bytes, limits);
        }
        // Binary content that is no archive is most likely a wrong file, not badly encoded Python.
        if bytes.contains(&0) || std::str::from_utf8(&bytes).is_err() {
            limits.check_packed(bytes.len())?;
            return Err(BundleError::UnknownFormat);
        }
        Self::source_bytes(bytes, limits)
    }

    fn source_bytes(bytes: Bytes, limits: &Limits) -> Result<Self, BundleError> {
        limits.check_packed(bytes.len())?;
        check_file_size(FUNCTION, bytes.len() as u64, FUNCTION_LIMIT)?;
        let source = source::decode(FUNCTION, &bytes)?;
        Ok(Self {
            digest: digest(&bytes),
            format: Format::Source,
            unpacked_size: bytes.len() as u64,
            bytes,
            source,
            requirements: None,
            files: 1,
        })
    }
}

/// The texts picked out of an archive, and hints for one that lacks its `function.py`.
#[derive(Default)]
struct Found {
    texts: HashMap<String, Vec<u8>>,
    elsewhere: Option<String>,
}

impl Found {
    fn look_at(&mut self, entry: archive::Entry<'_>, content: &mut dyn Read) -> Result<(), BundleError> {
        if entry.is_dir {
            return Ok(());
        }
        let in_root = entry.path.strip_prefix("code/").unwrap_or(entry.path);
        let limit = match in_root {
            FUNCTION => FUNCTION_LIMIT,
            REQUIREMENTS => REQUIREMENTS_LIMIT,
            _ => {
                if entry.path.ends_with("/function.py") {
                    self.elsewhere = Some(entry.path.to_owned());
                }
                return Ok(());
            }
        };
        let mut text = Vec::new();
        content.take(limit + 1).read_to_end(&mut text).map_err(BundleError::from_read)?;
        check_file_size(entry.path, text.len() as u64, limit)?;
        self.texts.insert(entry.path.to_owned(), text);
        Ok(())
    }

    /// The folder inside the archive that holds `function.py`: `code/` or the top.
    fn root(&self) -> Result<&'static str, BundleError> {
        if self.texts.contains_key("code/function.py") {
            return Ok("code/");
        }
        if self.texts.contains_key(FUNCTION) {
            return Ok("");
        }
        let hint = match &self.elsewhere {
            Some(path) => format!(
                "; `{}` was found: put the folder `code` at the top of the archive",
                path::shown(path.as_bytes())
            ),
            None => String::new(),
        };
        Err(BundleError::NoFunction { hint })
    }

    fn take(&mut self, path: &str) -> Option<Vec<u8>> {
        self.texts.remove(path)
    }
}

fn requirements(text: &[u8]) -> Result<Requirements, BundleError> {
    let text = std::str::from_utf8(text).map_err(|error| BundleError::BadEncoding {
        file: REQUIREMENTS.into(),
        reason: format!("is not UTF-8 (byte {})", error.valid_up_to()),
    })?;
    Ok(Requirements::parse(text)?)
}

fn check_file_size(file: &str, len: u64, limit: u64) -> Result<(), BundleError> {
    if len > limit {
        return Err(BundleError::TooLarge { what: format!("`{file}`"), limit: size(limit) });
    }
    Ok(())
}

/// SHA-256 as lower-case hex: how bundles are known.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A size for people: `32 MiB`, `1000 bytes`.
fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}
