//! Reading archives that may be hostile: one walk over zip and tar under one set of rules.

use std::collections::{HashMap, HashSet, hash_map};
use std::io::{self, Cursor, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use tar::EntryType;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::path::{ignored, normalise, shown};
use super::{BundleError, Format, Limits, size};

/// Content may be at most this many times the size of its archive, once it is larger than
/// [`RATIO_FLOOR`]: source code packs 3 to 10 times, bombs a thousand times.
const RATIO: u64 = 250;
const RATIO_FLOOR: u64 = 16 << 20;
/// What an xz stream may ask for to unpack: `xz -9` needs 65 MiB, a hostile header may name 4 GiB.
const XZ_MEMORY: u64 = 96 << 20;
/// Longest extended header of a tar entry. Names are at most a kilobyte; the declared length of such a
/// header is otherwise a way to fill memory.
const TAR_HEADER_LIMIT: u64 = 64 << 10;

/// One file or folder of an archive; `path` is in plain form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a str,
    pub(super) is_dir: bool,
    pub(super) executable: bool,
}

/// What a walk has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// Calls `visit` for each entry in the archive's order and reads every entry to its end, so that all
/// checksums are verified, whatever `visit` leaves unread.
pub(super) fn walk<E: From<BundleError>>(
    bytes: &Bytes,
    format: Format,
    limits: &Limits,
    mut visit: impl FnMut(Entry<'_>, &mut dyn Read) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut rules = Rules::new(bytes.len() as u64, limits);
    match format {
        Format::Source => return Err(BundleError::UnknownFormat.into()),
        Format::Zip => walk_zip(bytes, &mut rules, &mut visit)?,
        Format::TarGz => walk_tar(MultiGzDecoder::new(bytes.as_ref()), &mut rules, &mut visit)?,
        Format::TarXz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                .map_err(|error| BundleError::corrupt(error.to_string()))?;
            walk_tar(XzDecoder::new_stream(bytes.as_ref(), stream), &mut rules, &mut visit)?;
        }
    }
    Ok(rules.totals)
}

fn walk_zip<E: From<BundleError>>(
    bytes: &Bytes,
    rules: &mut Rules,
    visit: &mut impl FnMut(Entry<'_>, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    rules.check_zip_index(bytes)?;
    let mut archive =
        ZipArchive::new(Cursor::new(bytes.clone())).map_err(|error| zip_error(error, "the list of files"))?;
    if archive.has_duplicate_names() {
        // The reader keeps one entry per name; which of the two is content and which is disguise is
        // anyone's guess.
        let entry = repeated_name(bytes, archive.central_directory_start()).unwrap_or_default();
        return Err(BundleError::DuplicateEntry { entry }.into());
    }
    for index in 0..archive.len() {
        let raw = archive.by_index_raw(index).map_err(|error| zip_error(error, "an entry"))?;
        let name = raw.name_raw().to_vec();
        if raw.encrypted() {
            return Err(BundleError::Encrypted { entry: shown(&name) }.into());
        }
        if !matches!(raw.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            let feature = format!("the compression method {:?}", raw.compression());
            return Err(BundleError::Unsupported { entry: shown(&name), feature }.into());
        }
        let mode = raw.unix_mode().unwrap_or(0);
        // An archive made on Unix holds the file's type in the mode; others leave it zero.
        match mode & 0o170_000 {
            0 | 0o040_000 | 0o100_000 => {}
            0o120_000 => return Err(BundleError::UnsafeLink { entry: shown(&name) }.into()),
            _ => return Err(BundleError::UnsafeEntry { entry: shown(&name) }.into()),
        }
        let is_dir = name.ends_with(b"/") || mode & 0o170_000 == 0o040_000;
        drop(raw);
        let mut content = archive.by_index(index).map_err(|error| zip_error(error, &shown(&name)))?;
        rules.visit(&name, is_dir, mode & 0o111 != 0, &mut content, visit)?;
    }
    Ok(())
}

fn zip_error(error: ZipError, entry: &str) -> BundleError {
    match error {
        ZipError::Io(error) => BundleError::from_read(error),
        ZipError::UnsupportedArchive(feature) => {
            BundleError::Unsupported { entry: entry.to_owned(), feature: feature.to_owned() }
        }
        ZipError::InvalidArchive(detail) if detail.contains("EOCD") || detail.contains("end") => {
            BundleError::Truncated { detail: detail.into_owned() }
        }
        other => BundleError::corrupt(other.to_string()),
    }
}

/// The first name that a zip's central directory lists twice.
fn repeated_name(bytes: &[u8], start: u64) -> Option<String> {
    const HEADER: usize = 46;
    let mut seen = HashSet::new();
    let mut rest = bytes.get(usize::try_from(start).ok()?..)?;
    while rest.starts_with(b"PK\x01\x02") {
        let length = |at: usize| {
            let field = rest.get(at..at + 2)?.try_into().ok()?;
            Some(usize::from(u16::from_le_bytes(field)))
        };
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        let raw = rest.get(HEADER..HEADER + name)?;
        if !seen.insert(raw) {
            return Some(shown(raw));
        }
        rest = rest.get(HEADER + name + extra + comment..)?;
    }
    None
}

/// Reads raw tar entries, so that each extended header is looked at here, with a limit on its length.
fn walk_tar<R: Read, E: From<BundleError>>(
    unpacked: R,
    rules: &mut Rules,
    visit: &mut impl FnMut(Entry<'_>, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut stream = Bounded { inner: unpacked, left: rules.stream_limit(), limit: rules.limits.unpacked };
    let mut archive = tar::Archive::new(&mut stream);
    let mut long_name = None;
    for entry in archive.entries().map_err(BundleError::from_read)?.raw(true) {
        let mut entry = entry.map_err(BundleError::from_read)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::XHeader => {
                if let Some(path) = pax_path(&extended_header(&mut entry)?)? {
                    long_name = Some(path);
                }
                continue;
            }
            EntryType::GNULongName => {
                let mut name = extended_header(&mut entry)?;
                // Written with a NUL at the end; one inside is for the name's own check to refuse.
                name.pop_if(|last| *last == 0);
                long_name = Some(name);
                continue;
            }
            // `git archive` keeps the commit in one.
            EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => {
                let is_dir = kind == EntryType::Directory || name.ends_with(b"/");
                let mode = entry.header().mode().unwrap_or(0);
                rules.visit(&name, is_dir, mode & 0o111 != 0, &mut entry, visit)?;
            }
            // A long link name belongs to the link that follows it.
            EntryType::Link | EntryType::Symlink | EntryType::GNULongLink => {
                return Err(BundleError::UnsafeLink { entry: shown(&name) }.into());
            }
            EntryType::GNUSparse => return Err(sparse(&name).into()),
            _ => return Err(BundleError::UnsafeEntry { entry: shown(&name) }.into()),
        }
    }
    // Behind the last entry there may be more: padding, or a bomb; and the checksum is at the very end.
    io::copy(&mut stream, &mut io::sink()).map_err(BundleError::from_read)?;
    Ok(())
}

fn extended_header(entry: &mut impl Read) -> Result<Vec<u8>, BundleError> {
    let mut header = Vec::new();
    entry.take(TAR_HEADER_LIMIT + 1).read_to_end(&mut header).map_err(BundleError::from_read)?;
    if header.len() as u64 > TAR_HEADER_LIMIT {
        let what = "an extended header of the archive".to_owned();
        return Err(BundleError::TooLarge { what, limit: size(TAR_HEADER_LIMIT) });
    }
    Ok(header)
}

/// The `path` in a pax header. A size in one would move where the next entry starts, and is only needed
/// for files far beyond the limits.
fn pax_path(header: &[u8]) -> Result<Option<Vec<u8>>, BundleError> {
    let mut path = None;
    for extension in tar::PaxExtensions::new(header) {
        let extension = extension.map_err(BundleError::from_read)?;
        match extension.key_bytes() {
            b"path" => path = Some(extension.value_bytes().to_vec()),
            b"size" => return Err(BundleError::corrupt("an extended header overrides a size")),
            b"linkpath" => {
                let entry = shown(path.as_deref().unwrap_or(extension.value_bytes()));
                return Err(BundleError::UnsafeLink { entry });
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(sparse(path.as_deref().unwrap_or(extension.value_bytes())));
            }
            _ => {}
        }
    }
    Ok(path)
}

fn sparse(name: &[u8]) -> BundleError {
    BundleError::Unsupported { entry: shown(name), feature: "sparse files".into() }
}

/// A decompressed stream that ends with an error instead of exceeding its limit.
struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| {
            // Said here, where it is certain: tar's own errors do not tell damage from an early end.
            let detail = match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    let detail = "the compressed data ends early".to_owned();
                    return io::Error::other(BundleError::Truncated { detail });
                }
                _ => format!("the compressed data is invalid: {error}"),
            };
            io::Error::other(BundleError::Corrupt { detail })
        })?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(unpacked_too_large(self.limit)))?;
        Ok(read)
    }
}

pub(super) fn unpacked_too_large(limit: u64) -> BundleError {
    BundleError::TooLarge { what: "the unpacked archive".into(), limit: size(limit) }
}

/// The rules that hold for every archive, and what has been counted against them.
struct Rules {
    packed: u64,
    limits: Limits,
    seen: HashMap<String, bool>,
    totals: Totals,
}

impl Rules {
    fn new(packed: u64, limits: &Limits) -> Self {
        Self { packed, limits: *limits, seen: HashMap::new(), totals: Totals::default() }
    }

    /// A zip's index is read into memory as a whole, some 500 bytes for each 46 in the archive: count its
    /// headers first. Zip files stored inside count too, hence the slack.
    fn check_zip_index(&self, bytes: &[u8]) -> Result<(), BundleError> {
        const SLACK: usize = 50_000;
        let headers = bytes.windows(4).filter(|window| window == b"PK\x01\x02").count();
        if headers > self.limits.files + SLACK {
            return Err(BundleError::TooManyFiles { limit: self.limits.files });
        }
        Ok(())
    }

    /// What a tar stream may unpack to: the content, and the headers and padding of each entry.
    fn stream_limit(&self) -> u64 {
        const PER_ENTRY: u64 = 4096;
        self.limits.unpacked.saturating_add(PER_ENTRY.saturating_mul(self.limits.files as u64 + 16))
    }

    fn visit<E: From<BundleError>>(
        &mut self,
        name: &[u8],
        is_dir: bool,
        executable: bool,
        content: &mut dyn Read,
        visit: &mut impl FnMut(Entry<'_>, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = normalise(name)?;
        let mut content = Counted { inner: content, rules: self };
        if path.is_empty() && !is_dir {
            let entry = shown(name);
            return Err(BundleError::UnsafePath { entry, reason: "it names the archive's top" }.into());
        }
        if !path.is_empty() {
            content.rules.admit(&path, is_dir)?;
            if !ignored(&path) {
                content.rules.totals.files += usize::from(!is_dir);
                visit(Entry { path: &path, is_dir, executable }, &mut content)?;
            }
        }
        io::copy(&mut content, &mut io::sink()).map_err(BundleError::from_read)?;
        Ok(())
    }

    /// Notes a path and the folders it implies; refuses one that was there before.
    fn admit(&mut self, path: &str, is_dir: bool) -> Result<(), BundleError> {
        let duplicate = || BundleError::DuplicateEntry { entry: shown(path.as_bytes()) };
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default();
            match self.seen.get(parent) {
                Some(true) => {}
                Some(false) => return Err(duplicate()),
                None => {
                    self.seen.insert(parent.to_owned(), true);
                }
            }
        }
        match self.seen.entry(path.to_owned()) {
            hash_map::Entry::Vacant(slot) => {
                slot.insert(is_dir);
            }
            // A folder may be named again, or after what is in it.
            hash_map::Entry::Occupied(slot) if *slot.get() && is_dir => {}
            hash_map::Entry::Occupied(_) => return Err(duplicate()),
        }
        if self.seen.len() > self.limits.files {
            return Err(BundleError::TooManyFiles { limit: self.limits.files });
        }
        Ok(())
    }

    fn count(&mut self, read: usize) -> Result<(), BundleError> {
        self.totals.bytes += read as u64;
        if self.totals.bytes > self.limits.unpacked {
            return Err(unpacked_too_large(self.limits.unpacked));
        }
        if self.totals.bytes > RATIO_FLOOR && self.totals.bytes / RATIO > self.packed {
            let limit = format!("{RATIO} times the archive's size");
            return Err(BundleError::TooLarge { what: "the unpacked archive".into(), limit });
        }
        Ok(())
    }
}

/// An entry's content, counted against the rules.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    rules: &'a mut Rules,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.rules.count(read).map_err(io::Error::other)?;
        Ok(read)
    }
}
