//! Environments: what a policy's `requirements.txt` asks for, installed once and shared.
//!
//! INVARIANT (complete): a folder that holds the file `.complete` is a whole environment. The file is
//! written last; a folder without it is removed before the next attempt. (An environment cannot be made
//! elsewhere and renamed: its scripts name their interpreter by its path.)
//!
//! INVARIANT (one installer): a folder is written to only under an exclusive `flock` on `<folder>.lock`,
//! which the installing program holds open too, so that one that outlives a killed server keeps it.
//!
//! INVARIANT (nothing of theirs runs): installing runs no code of the packages. Only wheels are taken
//! unless the operator allows builds, and an environment's own interpreter, which runs what `.pth` files
//! say, is never started here.

mod installer;
mod python;
mod requirements;
mod stdlib;
mod uv;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::flight::Flights;
use installer::Installer;

pub use python::{Python, PythonError};
pub use requirements::{Requirements, RequirementsError};

const COMPLETE: &str = ".complete";
/// Part of each environment's digest: raise it when what is installed beside the packages changes.
const LAYOUT: &str = "1";
/// How often a lock that another process holds is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// How environments are made.
#[derive(Debug, Clone)]
pub struct EnvironmentOptions {
    /// The package index; `None`: `UV_DEFAULT_INDEX` or `PIP_INDEX_URL` of the server, else PyPI.
    pub index_url: Option<String>,
    /// Further indexes.
    pub extra_index_urls: Vec<String>,
    /// Longest time for one environment (10 minutes).
    pub timeout: Duration,
    /// The `uv` to use; `None`: `EDICT_UV`, the `PATH`, else our own copy.
    pub uv: Option<PathBuf>,
    /// Whether packages that come as source only may be built (no): a build runs the package's code as the
    /// server's user, outside any sandbox.
    pub allow_builds: bool,
}

impl Default for EnvironmentOptions {
    fn default() -> Self {
        Self {
            index_url: None,
            extra_index_urls: Vec::new(),
            timeout: Duration::from_secs(600),
            uv: None,
            allow_builds: false,
        }
    }
}

/// An environment that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The interpreter to start. Only in a sandbox: packages decide what runs when it starts.
    pub python: PathBuf,
    /// The environment's folder, which the interpreter must be able to read.
    pub path: PathBuf,
    /// SHA-256 over the requirements and the Python version, lower-case hex.
    pub digest: String,
}

/// Why there is no environment.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EnvironmentError {
    /// The installer failed. It is tried again on the next use.
    #[error("the requirements cannot be installed; the installer's last lines:\n{log}")]
    Install {
        /// The last lines, without the server's paths and secrets.
        log: String,
    },
    /// It took too long. It is tried again on the next use.
    #[error("installing the requirements took longer than {limit:?}")]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// There is no `uv` and none can be had.
    #[error("{reason}")]
    Installer {
        /// Why, and what the operator can do.
        reason: String,
    },
    /// A package replaces parts of the environment that are not its own.
    #[error("a package in the requirements replaces the environment's interpreter; remove it")]
    Tampered,
    /// The disk fails, is full or may not be written.
    #[error("the folder of environments cannot be used: {0}")]
    Io(#[source] Arc<io::Error>),
}

impl EnvironmentError {
    /// The stable code that goes into replies.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Install { .. } => "requirements_not_installed",
            Self::Timeout { .. } => "requirements_timed_out",
            Self::Installer { .. } => "installer_unavailable",
            Self::Tampered => "requirements_unsafe",
            Self::Io(_) => "environment_unusable",
        }
    }
}

/// The environments in one folder. Several processes may share it.
#[derive(Clone)]
pub struct Environments {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    python: Python,
    options: EnvironmentOptions,
    installer: Installer,
    uv: OnceCell<PathBuf>,
    /// By the digest of the requirements: the Python is always the same.
    ready: Mutex<HashMap<String, Arc<Environment>>>,
    flights: Flights<Arc<Environment>, EnvironmentError>,
}

impl Environments {
    /// Opens the environments in `dir`, which is made if need be.
    pub fn open(dir: &Path, python: Python, options: EnvironmentOptions) -> io::Result<Self> {
        let home = dir.join("home");
        fs::create_dir_all(&home)?;
        let (dir, home) = (dir.canonicalize()?, home.canonicalize()?);
        // Workers under another user read the environments, but have no business with the installer's.
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        let installer = Installer::new(home, &options, std::env::vars_os());
        let inner = Inner {
            dir,
            python,
            options,
            installer,
            uv: OnceCell::new(),
            ready: Mutex::default(),
            flights: Flights::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The Python that the environments are made for.
    pub fn python(&self) -> &Python {
        &self.inner.python
    }

    /// The `uv` that is used; installs it if there is none.
    pub async fn uv(&self) -> Result<PathBuf, EnvironmentError> {
        let inner = &self.inner;
        let find = || uv::find(&inner.dir, &inner.python, &inner.options, &inner.installer);
        inner.uv.get_or_try_init(find).await.cloned()
    }

    /// The environment for these requirements, installed on first use.
    ///
    /// Concurrent callers share one installation and its outcome, those of other processes included. It goes
    /// on when its callers are gone, so that a patient caller is not needed for a slow installation.
    pub async fn ensure(&self, requirements: &Requirements) -> Result<Arc<Environment>, EnvironmentError> {
        if let Some(environment) = self.inner.ready(&requirements.digest) {
            return Ok(environment);
        }
        let work = async {
            if let Some(environment) = self.inner.ready(&requirements.digest) {
                return Ok(environment);
            }
            let (environments, wanted) = (self.clone(), requirements.clone());
            let task = tokio::spawn(async move { environments.installed(&wanted).await });
            let environment = Arc::new(task.await.map_err(io::Error::other)??);
            self.inner.note(&requirements.digest, &environment);
            Ok(environment)
        };
        self.inner.flights.run(&requirements.digest, work).await
    }

    async fn installed(&self, requirements: &Requirements) -> Result<Environment, EnvironmentError> {
        let environment = self.inner.place(requirements);
        if marked(&environment.path) {
            return Ok(environment);
        }
        let uv = self.uv().await?;
        let lock = lock(&environment.path).await?;
        if marked(&environment.path) {
            return Ok(environment);
        }
        let limit = self.inner.options.timeout;
        let install = self.inner.install(&uv, requirements, &environment, &lock);
        let result = tokio::time::timeout(limit, install).await;
        if let Err(error) = result.unwrap_or(Err(EnvironmentError::Timeout { limit })) {
            reset(&environment.path).and_then(fs::remove_dir_all)?;
            return Err(error);
        }
        Ok(environment)
    }
}

impl Inner {
    fn ready(&self, digest: &str) -> Option<Arc<Environment>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        // People clear caches while servers run.
        ready.filter(|environment| marked(&environment.path))
    }

    fn note(&self, digest: &str, environment: &Arc<Environment>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(digest.to_owned(), Arc::clone(environment));
    }

    /// Where the environment for these requirements is, or will be.
    fn place(&self, requirements: &Requirements) -> Environment {
        let (major, minor, patch) = self.python.version;
        let executable = self.python.executable.display();
        let key = format!("{LAYOUT}\n{executable}\n{major}.{minor}.{patch}\n{}", requirements.digest);
        let digest = hex::encode(Sha256::digest(key));
        let path = self.dir.join(&digest);
        Environment { python: path.join("bin/python"), path, digest }
    }

    async fn install(
        &self,
        uv: &Path,
        requirements: &Requirements,
        environment: &Environment,
        lock: &File,
    ) -> Result<(), EnvironmentError> {
        let folder = &environment.path;
        let scratch = reset(folder)?;
        let (venv, base) = (folder.to_string_lossy(), self.python.executable.to_string_lossy());
        let run = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            let scratch = &scratch;
            async move {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                self.installer.run(uv, &arguments, scratch, lock).await
            }
        };
        run(&["venv", "--quiet", "--no-project", "--python", &base, &venv]).await?;
        let interpreter = fs::read_link(&environment.python)?;
        if !requirements.is_empty() {
            let list = folder.join("requirements.txt");
            fs::write(&list, requirements.lines.join("\n") + "\n")?;
            let (python, list) = (environment.python.to_string_lossy(), list.to_string_lossy());
            let mut arguments = vec!["pip", "install", "--quiet", "--python", &python, "-r", &list];
            if !self.options.allow_builds {
                arguments.extend(["--only-binary", ":all:"]);
            }
            run(&arguments).await?;
        }
        // A wheel may install a script of any name.
        if fs::read_link(&environment.python).ok() != Some(interpreter) {
            return Err(EnvironmentError::Tampered);
        }
        self.compile(folder, &scratch, lock).await?;
        make_readable(folder)?;
        finish(folder, &scratch)
    }

    /// Compiles the packages, which workers cannot do: they may not write here. The base interpreter does it
    /// without `site`, so nothing that the packages left in `.pth` files runs.
    async fn compile(&self, folder: &Path, scratch: &Path, lock: &File) -> Result<(), EnvironmentError> {
        let lib = folder.join("lib");
        let lib = lib.to_string_lossy();
        let arguments = ["-I", "-S", "-m", "compileall", "-q", "-j", "0", &lib];
        match self.installer.run(&self.python.executable, &arguments, scratch, lock).await {
            // Packages ship templates and tests in other dialects of Python.
            Ok(()) | Err(EnvironmentError::Install { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn marked(folder: &Path) -> bool {
    folder.join(COMPLETE).exists()
}

/// Takes the lock of a folder, which need not exist yet. Polls, so that a caller that is dropped leaves no
/// thread behind that waits for it.
async fn lock(folder: &Path) -> io::Result<File> {
    let file = File::create(folder.with_extension("lock"))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_INTERVAL).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Removes what an earlier attempt left, and makes an empty scratch folder beside.
fn reset(folder: &Path) -> io::Result<PathBuf> {
    let scratch = folder.with_extension("tmp");
    for left in [folder, &scratch] {
        match fs::remove_dir_all(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::create_dir(&scratch)?;
    Ok(scratch)
}

/// Marks a folder as complete, and removes its scratch folder.
fn finish(folder: &Path, scratch: &Path) -> Result<(), EnvironmentError> {
    fs::remove_dir_all(scratch)?;
    let marker = File::create(folder.join(COMPLETE))?;
    Ok(marker.sync_all()?)
}

/// Lets others read and enter, whatever our umask is: workers may run under another user.
fn make_readable(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let wanted = if metadata.is_dir() || mode & 0o100 != 0 { 0o755 } else { 0o644 };
    if mode & 0o777 != wanted {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            make_readable(&entry?.path())?;
        }
    }
    Ok(())
}
