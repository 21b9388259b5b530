//! Archives of code, good ones and bad ones.

use std::io::{Cursor, Write};

/// Names and contents of files.
pub(crate) type Files<'a> = &'a [(&'a str, &'a str)];

pub(crate) fn zip(files: Files<'_>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub(crate) fn tar_gz(files: Files<'_>) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    tar(files, encoder).finish().unwrap()
}

pub(crate) fn tar_xz(files: Files<'_>) -> Vec<u8> {
    tar(files, liblzma::write::XzEncoder::new(Vec::new(), 1)).finish().unwrap()
}

/// A tar.gz with one link beside a good `function.py`.
pub(crate) fn with_link(source: &str, name: &str, target: &str) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(encoder);
    append(&mut tar, "code/function.py", source);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, name, target).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

fn tar<W: Write>(files: Files<'_>, to: W) -> W {
    let mut tar = tar::Builder::new(to);
    for (name, content) in files {
        append(&mut tar, name, content);
    }
    tar.into_inner().unwrap()
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, content: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    // Written as it is: the crate's own way refuses the paths that a hostile archive holds.
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    tar.append(&header, content.as_bytes()).unwrap();
}
