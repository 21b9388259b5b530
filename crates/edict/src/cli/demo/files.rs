//! The sample policy and the Python SDK, carried in the program.

use super::super::failure::Failure;
use include_dir::{Dir, DirEntry, include_dir};
use std::fs;
use std::path::{Path, PathBuf};

static SAMPLE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../policies/ip_allowlist");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/python/src");

/// Writes both below `folder`; returns the policy's folder, and the one for `PYTHONPATH`.
pub(super) fn unpack(folder: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let (sample, sdk) = (folder.join("ip_allowlist"), folder.join("sdk"));
    for (dir, to) in [(&SAMPLE, &sample), (&SDK, &sdk)] {
        write(dir, to)
            .map_err(|error| Failure::failed(format!("cannot unpack the demo's files: {error}")))?;
    }
    Ok((sample, sdk))
}

fn write(dir: &Dir<'_>, to: &Path) -> std::io::Result<()> {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(inner) => write(inner, to)?,
            // A build next to a used checkout may have found caches of Python, too.
            DirEntry::File(file) if file.path().extension().is_none_or(|extension| extension != "pyc") => {
                let path = to.join(file.path());
                fs::create_dir_all(path.parent().unwrap_or(to))?;
                fs::write(path, file.contents())?;
            }
            DirEntry::File(_) => {}
        }
    }
    Ok(())
}
