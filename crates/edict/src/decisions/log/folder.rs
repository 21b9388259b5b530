//! A server's folder of recorded decisions, and those that servers before it left.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// One server's folder, which nobody else touches while this lives.
///
/// INVARIANT (one-spool): whoever holds the lock beside a folder is the only one to write to it or to take from it. The
/// lock is taken before the folder is made, and goes with the process: several servers may share a data folder, and what
/// a killed one left is found by the next.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// A new folder below `root`.
    pub(super) fn make(root: &Path) -> io::Result<Self> {
        private().recursive(true).create(root)?;
        let path = root.join(Uuid::now_v7().simple().to_string());
        let lock = lock_of(&path)?;
        lock.try_lock()?;
        private().create(&path)?;
        File::open(root)?.sync_all()?;
        Ok(Self { path, lock })
    }

    /// Folders below `root` whose servers are gone, the oldest first.
    pub(super) fn abandoned(root: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        found.sort();
        let mut abandoned = Vec::new();
        for path in found {
            let lock = lock_of(&path)?;
            if lock.try_lock().is_err() {
                continue;
            }
            // Between the look and the lock, another server may have emptied and removed it.
            match path.exists() {
                true => abandoned.push(Self { path, lock }),
                false => fs::remove_file(lock_path(&path))?,
            }
        }
        Ok(abandoned)
    }

    /// Numbers of its segments, in their order.
    pub(super) fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes a segment, open for adding to its end.
    pub(super) fn create(&self, number: u64) -> io::Result<File> {
        OpenOptions::new().create_new(true).append(true).mode(0o600).open(self.segment(number))
    }

    pub(super) fn open(&self, number: u64) -> io::Result<File> {
        File::open(self.segment(number))
    }

    pub(super) fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        fs::read(self.segment(number))
    }

    /// Removes a segment; tells how many bytes it had.
    pub(super) fn delete(&self, number: u64) -> io::Result<u64> {
        let path = self.segment(number);
        let size = fs::metadata(&path)?.len();
        fs::remove_file(path)?;
        Ok(size)
    }

    /// Makes the names of its segments last.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Removes it; fails when something is left in it.
    pub(super) fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.path)?;
        fs::remove_file(lock_path(&self.path))
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:08}.jsonl"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.lock.unlock().ok();
    }
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    // Contexts may hold what other users of the machine must not read.
    builder.mode(0o700);
    builder
}

fn lock_of(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path(path))
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}
