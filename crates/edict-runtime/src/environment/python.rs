//! The Python that runs policies.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

/// Oldest version that policies run on.
const OLDEST: (u32, u32) = (3, 9);
/// Looked for on the `PATH`, in this order.
const NAMES: [&str; 8] =
    ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python3.14", "python"];
const TIMEOUT: Duration = Duration::from_secs(15);

/// Prints what we need to know as JSON. `-I` keeps the caller's folder and variables out of it.
const PROBE: &str = r#"
import json, os, sys, sysconfig
paths = sysconfig.get_paths()
roots = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, paths["stdlib"],
         paths["platstdlib"], os.path.dirname(os.path.realpath(sys.executable)),
         sysconfig.get_config_var("LIBDIR") or ""] + sys.path
print(json.dumps({"executable": sys.executable, "version": list(sys.version_info[:3]),
                  "roots": sorted({r for root in roots if os.path.isdir(root)
                                   for r in (os.path.abspath(root), os.path.realpath(root))})}))
"#;

/// A Python interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// The interpreter itself, as it names itself: never a version manager's wrapper.
    pub executable: PathBuf,
    /// Its version, e.g. `(3, 11, 7)`.
    pub version: (u32, u32, u32),
    /// The folders that a process must be able to read to run it; none lies below another.
    pub roots: Vec<PathBuf>,
}

/// Why there is no Python to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PythonError {
    /// None was found.
    #[error(
        "no Python {}.{} or newer was found on the PATH{}; install one (on Debian or Ubuntu: \
         `apt install python3 python3-venv`) or name it with EDICT_PYTHON",
        OLDEST.0, OLDEST.1, in_brackets(rejected)
    )]
    NotFound {
        /// Those that were found and cannot be used, with the reason.
        rejected: Vec<String>,
    },
    /// The one that was named cannot be used.
    #[error("{reason}; name another with EDICT_PYTHON, or install Python {}.{} or newer", OLDEST.0, OLDEST.1)]
    Unusable {
        /// Which, and why.
        reason: String,
    },
}

fn in_brackets(rejected: &[String]) -> String {
    if rejected.is_empty() { String::new() } else { format!(" ({})", rejected.join("; ")) }
}

#[derive(Deserialize)]
struct Probe {
    executable: PathBuf,
    version: (u32, u32, u32),
    roots: Vec<PathBuf>,
}

impl Python {
    /// Finds the interpreter: `explicit`, else `EDICT_PYTHON`, else the first on the `PATH` that is new
    /// enough. One that is named must be usable; another is not taken in its place.
    pub async fn discover(explicit: Option<&Path>) -> Result<Self, PythonError> {
        let named = explicit
            .map(Path::to_owned)
            .or_else(|| std::env::var_os("EDICT_PYTHON").filter(|name| !name.is_empty()).map(PathBuf::from));
        if let Some(named) = named {
            return Self::probe(&named).await.map_err(|reason| PythonError::Unusable { reason });
        }
        let mut rejected = Vec::new();
        for name in NAMES {
            for candidate in on_path(name) {
                match Self::probe(&candidate).await {
                    Ok(python) => return Ok(python),
                    Err(reason) => rejected.push(reason),
                }
            }
        }
        Err(PythonError::NotFound { rejected })
    }

    async fn probe(executable: &Path) -> Result<Self, String> {
        let shown = executable.display();
        let mut command = Command::new(executable);
        command.args(["-I", "-c", PROBE]).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(TIMEOUT, command.output())
            .await
            .map_err(|_| format!("`{shown}` did not answer within {TIMEOUT:?}"))?
            .map_err(|error| format!("`{shown}` cannot be started: {error}"))?;
        let probe: Probe = serde_json::from_slice(&output.stdout).map_err(|_| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
            format!("`{shown}` is not a working Python ({last})")
        })?;
        let (major, minor, patch) = probe.version;
        if (major, minor) < OLDEST {
            return Err(format!("`{shown}` is Python {major}.{minor}.{patch}, which is too old"));
        }
        Ok(Self { executable: probe.executable, version: probe.version, roots: outermost(probe.roots) })
    }
}

/// The files of this name on the `PATH`, in its order.
pub(super) fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).filter(|file| file.is_file()).collect()
}

/// The sorted folders without those that lie below another, and without `/`, which would allow everything.
fn outermost(sorted: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    for folder in sorted {
        if folder.parent().is_some() && !roots.iter().any(|root| folder.starts_with(root)) {
            roots.push(folder);
        }
    }
    roots
}
