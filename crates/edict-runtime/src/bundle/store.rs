//! Unpacked bundles on disk, by digest.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Bundle, BundleError, FUNCTION, Format, Limits, REQUIREMENTS, archive, requirements};
use crate::environment::Requirements;
use crate::flight::Flights;

/// Folders being filled or removed; everything else in the store is a whole bundle.
const SCRATCH: &str = ".tmp-";
/// A scratch folder younger than this may be one that is about to be locked.
const SCRATCH_AGE: Duration = Duration::from_secs(60);
/// A bundle of at most this many files is synced file by file.
const SYNCED_ONE_BY_ONE: usize = 16;

/// A folder of policy code that can be run. While it is held, it is not evicted.
#[derive(Debug)]
pub struct CodeDir {
    /// The folder that holds `function.py` and goes on `sys.path`. Its files are readable to everyone and
    /// writable to none.
    pub path: PathBuf,
    /// What the policy needs beside the standard library.
    pub requirements: Option<Requirements>,
    /// The bundle's folder, locked as in use.
    lock: Option<File>,
}

impl CodeDir {
    /// A folder outside any store, e.g. the one a policy is being written in.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.join(FUNCTION).is_file() {
            return Err(BundleError::NoFunction { hint: String::new() }.into());
        }
        Ok(Self { path: path.to_owned(), requirements: read_requirements(path)?, lock: None })
    }
}

impl Drop for CodeDir {
    fn drop(&mut self) {
        if let Some(folder) = &self.lock {
            mark_used(folder);
        }
    }
}

/// Why code cannot be had from a store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not a digest.
    #[error("`{0}` is not a SHA-256 in lower-case hex")]
    BadDigest(String),
    /// The bytes could not be fetched; the caller's own error.
    #[error("the code cannot be fetched: {0}")]
    Fetch(#[source] Arc<dyn Error + Send + Sync>),
    /// What was fetched is something else.
    #[error("the code has the digest `{actual}`, not `{expected}` as when it was registered")]
    DigestMismatch {
        /// The digest asked for.
        expected: String,
        /// The digest of what was fetched.
        actual: String,
    },
    /// The bundle is refused.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The disk fails, is full or may not be written.
    #[error("the store of unpacked code cannot be used: {0}")]
    Io(#[source] Arc<io::Error>),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// What an eviction removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Number of bundles.
    pub bundles: usize,
    /// Sum of their files' sizes, in bytes.
    pub bytes: u64,
}

/// A cache of unpacked bundles, `DIR/<digest>/…`. Several processes may share one folder.
///
/// INVARIANT (whole or absent): a folder named by a digest holds the whole bundle. It is filled under
/// another name and renamed at the end.
///
/// INVARIANT (in use): a shared `flock` on such a folder means that it is in use; it is removed only under
/// an exclusive one. The kernel drops the locks of a process that dies.
#[derive(Clone)]
pub struct BundleStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    limits: Limits,
    in_use: Mutex<HashMap<String, Weak<CodeDir>>>,
    flights: Flights<Arc<CodeDir>, StoreError>,
}

impl BundleStore {
    /// Opens the store in `dir`, which is made if need be, and clears what killed processes left behind.
    pub fn open(dir: &Path, limits: Limits) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        clear_scratch(&dir)?;
        let inner = Inner { dir, limits, in_use: Mutex::default(), flights: Flights::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The unpacked bundle with this digest. `fetch` is awaited only if it is not there yet; what it gives
    /// is checked in full, its digest first, before anything is written. Concurrent callers of one digest
    /// share one fetch and its outcome.
    pub async fn ensure<F, E>(&self, digest: &str, fetch: F) -> Result<Arc<CodeDir>, StoreError>
    where
        F: Future<Output = Result<Bytes, E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        if let Some(code) = self.inner.held(digest) {
            return Ok(code);
        }
        // It becomes a path below: nothing but a digest may.
        let is_digest = digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest {
            return Err(StoreError::BadDigest(digest.chars().take(80).collect()));
        }
        let work = async {
            // Whoever was ahead in the flight may have finished between the look above and here.
            if let Some(code) = self.inner.held(digest) {
                return Ok(code);
            }
            if let Some(code) = self.blocking(digest, |inner, digest| inner.load(digest)).await? {
                return Ok(self.inner.hold(digest, code));
            }
            let bytes = fetch.await.map_err(|error| StoreError::Fetch(Arc::from(error.into())))?;
            let code = self.blocking(digest, move |inner, digest| inner.unpack(digest, bytes)).await?;
            Ok(self.inner.hold(digest, code))
        };
        self.inner.flights.run(digest, work).await
    }

    /// Removes the bundles used longest ago until those left take at most `max_bytes`. Bundles in use, by
    /// any process, stay.
    pub async fn evict(&self, max_bytes: u64) -> Result<Evicted, StoreError> {
        self.blocking("", move |inner, _| Ok(inner.evict(max_bytes)?)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        digest: &str,
        work: impl FnOnce(&Inner, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, digest) = (Arc::clone(&self.inner), digest.to_owned());
        tokio::task::spawn_blocking(move || work(&inner, &digest)).await.map_err(io::Error::other)?
    }
}

impl Inner {
    fn held(&self, digest: &str) -> Option<Arc<CodeDir>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).get(digest)?.upgrade()
    }

    fn hold(&self, digest: &str, code: CodeDir) -> Arc<CodeDir> {
        let code = Arc::new(code);
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|_, code| code.strong_count() > 0);
        in_use.insert(digest.to_owned(), Arc::downgrade(&code));
        code
    }

    fn load(&self, digest: &str) -> Result<Option<CodeDir>, StoreError> {
        let folder = self.dir.join(digest);
        let lock = match File::open(&folder) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        lock.lock_shared()?;
        // An eviction may have moved it away before the lock was had.
        if !fs::metadata(&folder).is_ok_and(|now| lock.metadata().is_ok_and(|then| now.ino() == then.ino())) {
            return Ok(None);
        }
        let Some(path) =
            [folder.join("code"), folder.clone()].into_iter().find(|p| p.join(FUNCTION).is_file())
        else {
            // Somebody removed files by hand. It can be had again.
            drop(lock);
            remove(&folder)?;
            return Ok(None);
        };
        mark_used(&lock);
        // Bundles that are bare source text have no such file.
        let requirements = read_requirements(&path)?;
        Ok(Some(CodeDir { path, requirements, lock: Some(lock) }))
    }

    fn unpack(&self, digest: &str, bytes: Bytes) -> Result<CodeDir, StoreError> {
        let actual = super::digest(&bytes);
        if actual != digest {
            return Err(StoreError::DigestMismatch { expected: digest.to_owned(), actual });
        }
        let bundle = Bundle::from_bytes(bytes, &self.limits)?;
        let scratch = Scratch::new(&self.dir)?;
        write_bundle(&bundle, &self.limits, &scratch.path)?;
        make_readable(&scratch.path)?;
        sync(&bundle, &scratch)?;
        match fs::rename(&scratch.path, self.dir.join(digest)) {
            Ok(()) => {}
            // Another process was faster; what is there is whole.
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(error.into()),
        }
        drop(scratch);
        let gone = || io::Error::other("an unpacked bundle was removed at once");
        Ok(self.load(digest)?.ok_or_else(gone)?)
    }

    fn evict(&self, max_bytes: u64) -> io::Result<Evicted> {
        let mut bundles = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_name().as_encoded_bytes().starts_with(b".")
                // Another process may be removing it right now.
                && let (Ok(metadata), Ok(size)) = (entry.metadata(), tree_size(&path))
            {
                bundles.push((metadata.modified()?, size, path));
            }
        }
        bundles.sort();
        let mut total: u64 = bundles.iter().map(|(_, size, _)| size).sum();
        let mut evicted = Evicted::default();
        for (_, size, folder) in bundles {
            if total <= max_bytes {
                break;
            }
            if remove(&folder)? {
                total -= size;
                evicted.bundles += 1;
                evicted.bytes += size;
            }
        }
        Ok(evicted)
    }
}

fn read_requirements(path: &Path) -> Result<Option<Requirements>, StoreError> {
    match fs::read(path.join(REQUIREMENTS)) {
        Ok(text) => Ok(Some(requirements(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write_bundle(bundle: &Bundle, limits: &Limits, to: &Path) -> Result<(), StoreError> {
    if bundle.format == Format::Source {
        return Ok(write_file(&to.join(FUNCTION), &mut bundle.bytes.as_ref(), false)?);
    }
    archive::walk(&bundle.bytes, bundle.format, limits, |entry, content| -> Result<(), StoreError> {
        let path = to.join(entry.path);
        if entry.is_dir {
            return Ok(fs::create_dir_all(path)?);
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(write_file(&path, content, entry.executable)?)
    })?;
    Ok(())
}

fn write_file(path: &Path, content: &mut dyn io::Read, executable: bool) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    io::copy(content, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(if executable { 0o555 } else { 0o444 }))
}

/// Brings what was written to the disk. Else a power cut after the rename can leave files of length zero in
/// a folder that counts as whole.
fn sync(bundle: &Bundle, scratch: &Scratch) -> io::Result<()> {
    // Some milliseconds each on a common disk; for many files, one pass over the file system is faster.
    if bundle.files > SYNCED_ONE_BY_ONE {
        return Ok(rustix::fs::syncfs(&scratch.lock)?);
    }
    sync_files(&scratch.path)
}

fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_files(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_data()?;
        }
    }
    Ok(())
}

/// A folder that is filled under a lock, and removed unless it has been renamed.
struct Scratch {
    path: PathBuf,
    lock: File,
}

impl Scratch {
    fn new(dir: &Path) -> io::Result<Self> {
        let path = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(dir)?.keep();
        let lock = File::open(&path)?;
        lock.lock()?;
        Ok(Self { path, lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Not there any more when it was renamed. What fails here is cleared when the store is opened next.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn clear_scratch(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > SCRATCH_AGE);
        if old
            && entry.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes())
            && let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a bundle unless it is in use: moved away first, so that no half of it is ever seen.
fn remove(folder: &Path) -> io::Result<bool> {
    let lock = match File::open(folder) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let parent = folder.parent().unwrap_or(folder);
    let scratch = Scratch::new(parent)?;
    fs::rename(folder, scratch.path.join("evicted"))?;
    Ok(true)
}

/// Lets others read and enter the folders, whatever our umask is: workers may run under another user.
fn make_readable(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_readable(&entry.path())?;
        }
    }
    Ok(())
}

fn tree_size(path: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { tree_size(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

fn mark_used(folder: &File) {
    // Only the order of eviction depends on it.
    let _ = folder.set_modified(SystemTime::now());
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}
