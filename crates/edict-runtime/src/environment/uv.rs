//! Finding `uv`, or getting it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::installer::Installer;
use super::python::on_path;
use super::{EnvironmentError, EnvironmentOptions, Python, finish, lock, marked, reset};

/// Older ones lack options that are used here.
const REQUIREMENT: &str = "uv>=0.5";
const TIMEOUT: Duration = Duration::from_secs(15);

/// The `uv` to use: the one that is named, one on the `PATH`, else our own copy in `dir/uv`, which is
/// installed there on first use.
pub(super) async fn find(
    dir: &Path,
    python: &Python,
    options: &EnvironmentOptions,
    installer: &Installer,
) -> Result<PathBuf, EnvironmentError> {
    let named = options
        .uv
        .clone()
        .or_else(|| std::env::var_os("EDICT_UV").filter(|name| !name.is_empty()).map(PathBuf::from));
    if let Some(named) = named {
        return if works(&named).await {
            Ok(named)
        } else {
            Err(EnvironmentError::Installer { reason: "the `uv` named by EDICT_UV does not run".into() })
        };
    }
    for candidate in on_path("uv") {
        if works(&candidate).await {
            return Ok(candidate);
        }
    }
    let home = dir.join("uv");
    let own = home.join("bin/uv");
    if marked(&home) && works(&own).await {
        return Ok(own);
    }
    tokio::time::timeout(options.timeout, bootstrap(&home, python, installer))
        .await
        .map_err(|_| EnvironmentError::Timeout { limit: options.timeout })??;
    Ok(own)
}

async fn bootstrap(home: &Path, python: &Python, installer: &Installer) -> Result<(), EnvironmentError> {
    let lock = lock(home).await?;
    let own = home.join("bin/uv");
    if marked(home) && works(&own).await {
        return Ok(());
    }
    let scratch = reset(home)?;
    let install = ["-I", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", REQUIREMENT];
    let venv = home.to_string_lossy();
    let made = match installer.run(&python.executable, &["-I", "-m", "venv", &venv], &scratch, &lock).await {
        Ok(()) => installer.run(&home.join("bin/python"), &install, &scratch, &lock).await,
        // Debian's Python comes without `ensurepip`, which `venv` needs, but may have pip.
        Err(EnvironmentError::Install { .. }) => {
            let install = [install.as_slice(), &["--target", &venv]].concat();
            installer.run(&python.executable, &install, &scratch, &lock).await
        }
        Err(error) => Err(error),
    };
    made.map_err(unavailable)?;
    if !works(&own).await {
        let reason = "the installed `uv` does not run on this machine; name another with EDICT_UV";
        return Err(EnvironmentError::Installer { reason: reason.into() });
    }
    finish(home, &scratch)
}

fn unavailable(error: EnvironmentError) -> EnvironmentError {
    let EnvironmentError::Install { log } = error else { return error };
    let reason = format!(
        "`uv`, which installs requirements, cannot be installed; install it yourself, or Python's `venv` and \
         `pip` (on Debian or Ubuntu: `apt install python3-venv`), or name it with EDICT_UV. The last lines \
         were:\n{log}"
    );
    EnvironmentError::Installer { reason }
}

async fn works(uv: &Path) -> bool {
    let mut command = Command::new(uv);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TIMEOUT, command.output()).await;
    output.is_ok_and(|output| output.is_ok_and(|o| o.status.success() && o.stdout.starts_with(b"uv ")))
}
