//! Packing a policy's folder.

use std::fs;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{Bundle, BundleError, FUNCTION, Limits, path};

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There is no `code/function.py`.
    #[error("`{}` holds no `code/function.py`", dir.display())]
    NoFunction {
        /// The policy's folder.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link or another thing that is neither file nor folder.
    #[error("`{}` is a link, which a server refuses; put the file itself there", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// What came out would be refused by a server.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The archive cannot be written.
    #[error("the archive cannot be made: {0}")]
    Write(#[from] zip::result::ZipError),
}

/// Packs `dir/code` as a zip that a server takes. The same content gives the same bytes, and so the same
/// digest, on every machine: sorted, with fixed times.
///
/// Left out: `__pycache__`, `*.pyc`, virtual environments, and everything whose name starts with a dot.
pub fn pack(dir: &Path) -> Result<Bytes, PackError> {
    let code = dir.join("code");
    if !code.join(FUNCTION).is_file() {
        return Err(PackError::NoFunction { dir: dir.to_owned() });
    }
    let limits = Limits::default();
    let mut files = Vec::new();
    collect(&code, "code", &limits, &mut files)?;
    files.sort();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut left = limits.unpacked;
    for (name, file) in files {
        let read_error = |source| PackError::Read { path: file.clone(), source };
        let length = fs::metadata(&file).map_err(read_error)?.len();
        left = left.checked_sub(length).ok_or_else(|| super::archive::unpacked_too_large(limits.unpacked))?;
        let content = fs::read(&file).map_err(read_error)?;
        let mode = if executable(&file).map_err(read_error)? { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        zip.start_file(name, options)?;
        zip.write_all(&content).map_err(zip::result::ZipError::Io)?;
    }
    let bytes = Bytes::from(zip.finish()?.into_inner());
    // What a server would refuse is better said here, before an upload.
    Bundle::from_archive(bytes.clone(), &limits)?;
    Ok(bytes)
}

fn collect(
    dir: &Path,
    prefix: &str,
    limits: &Limits,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<(), PackError> {
    let read_error = |source| PackError::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let (path, raw) = (entry.path(), entry.file_name());
        let name = raw.to_str().ok_or_else(|| BundleError::UnsafePath {
            entry: path::shown(raw.as_encoded_bytes()),
            reason: "it is not UTF-8",
        })?;
        if skipped(name) {
            continue;
        }
        let kind = entry.file_type().map_err(read_error)?;
        let name = format!("{prefix}/{name}");
        if kind.is_dir() {
            // A virtual environment under any name: thousands of files that run nowhere else.
            if !path.join("pyvenv.cfg").exists() {
                collect(&path, &name, limits, files)?;
            }
        } else if kind.is_file() {
            files.push((name, path));
        } else {
            return Err(PackError::Link { path });
        }
        if files.len() > limits.files {
            return Err(BundleError::TooManyFiles { limit: limits.files }.into());
        }
    }
    Ok(())
}

fn skipped(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "__pycache__" | "__MACOSX") || name.ends_with(".pyc")
}

#[cfg(unix)]
fn executable(file: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(file)?.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn executable(_: &Path) -> io::Result<bool> {
    Ok(false)
}
