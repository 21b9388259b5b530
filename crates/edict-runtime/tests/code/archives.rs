//! Making archives, well-formed and hostile ones.

use std::io::{Cursor, Write};

use bytes::Bytes;
use edict_runtime::bundle::Format;
use flate2::write::GzEncoder;
use liblzma::write::XzEncoder;
use tar::{EntryType, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

pub(crate) const ARCHIVES: [Format; 3] = [Format::Zip, Format::TarGz, Format::TarXz];
pub(crate) const POLICY: &str = "class AIOSv1PolicyRule:\n    def eval(self, p, i, c):\n        return {}\n";

/// Files, by name and content; names that end in `/` are folders.
pub(crate) fn archive(format: Format, files: &[(&str, &[u8])]) -> Bytes {
    match format {
        Format::Source => Bytes::copy_from_slice(files[0].1),
        Format::Zip => zip(files),
        Format::TarGz => gz(&tar(files)),
        Format::TarXz => xz(&tar(files)),
    }
}

pub(crate) fn policy(format: Format) -> Bytes {
    archive(format, &[("code/", b""), ("code/function.py", POLICY.as_bytes())])
}

pub(crate) fn zip(files: &[(&str, &[u8])]) -> Bytes {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = SimpleFileOptions::default();
        match name.strip_suffix('/') {
            Some(dir) => zip.add_directory(dir, options).unwrap(),
            None => {
                zip.start_file(*name, options).unwrap();
                zip.write_all(content).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner().into()
}

/// A zip whose files' names are replaced, byte for byte, after it was made.
pub(crate) fn zip_renamed(files: &[(&str, &[u8])], from: &[u8], to: &[u8]) -> Bytes {
    replace(&zip(files), from, to)
}

pub(crate) fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Bytes {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(i, _)| i).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes.into()
}

/// The entries, raw: the name is written into the header as it is, which tar's own builder refuses to do.
pub(crate) fn tar_entry(out: &mut Vec<u8>, name: &[u8], kind: EntryType, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        let kind = if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
        if name.len() > 99 {
            tar_entry(&mut out, b"././@LongLink", EntryType::GNULongName, "", format!("{name}\0").as_bytes());
        }
        tar_entry(&mut out, &name.as_bytes()[..name.len().min(99)], kind, "", content);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub(crate) fn gz(bytes: &[u8]) -> Bytes {
    let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap().into()
}

pub(crate) fn xz(bytes: &[u8]) -> Bytes {
    let mut xz = XzEncoder::new(Vec::new(), 1);
    xz.write_all(bytes).unwrap();
    xz.finish().unwrap().into()
}

/// Bytes that do not pack.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}
