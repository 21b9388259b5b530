//! Starting what an executor needs: Python, the runtime, the caches of code and environments.

use super::runner::Bridge;
use super::{Home, Tools};
use crate::settings::{Sandbox, Settings};
use edict_runtime::bundle::BundleStore;
use edict_runtime::environment::{EnvironmentOptions, Environments, Python, PythonError};
use edict_runtime::{Limits, Runtime, RuntimeConfig};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Why an executor does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Python(#[from] PythonError),
    #[error(transparent)]
    Runtime(#[from] edict_runtime::StartError),
    #[error("the caches in the data folder cannot be used: {0}")]
    Cache(#[from] std::io::Error),
    #[error("`sandbox` is `strict`, and this machine lacks: {0}; `edict doctor` says more")]
    Sandbox(String),
}

/// The place for an executor's home, which is made after its runtime: the registry needs the runtime to check code.
pub(crate) struct Vacancy(Arc<OnceLock<Arc<Home>>>);

impl Vacancy {
    /// Fills it, so that running policies reach their context.
    pub(crate) fn set(self, home: Home) -> Arc<Home> {
        Arc::clone(self.0.get_or_init(|| Arc::new(home)))
    }
}

/// The interpreter that policies run with.
pub(crate) async fn find_python(settings: &Settings) -> Result<Python, PythonError> {
    Python::discover(given(&settings.python)).await
}

fn given(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Starts the runtime. `cache` keeps unpacked code and environments and may be shared by processes; `own` is for this
/// process alone.
///
/// # Errors
/// When there is no usable Python, a folder cannot be written, or a strict sandbox lacks a layer.
pub(crate) async fn start_tools(
    settings: &Settings,
    cache: &Path,
    own: &Path,
) -> Result<(Tools, Vacancy), StartError> {
    let python = find_python(settings).await?;
    std::fs::create_dir_all(cache)?;
    let options = EnvironmentOptions {
        index_url: settings.index_url.given().map(str::to_owned),
        uv: given(&settings.uv).map(Path::to_path_buf),
        ..EnvironmentOptions::default()
    };
    let bundles = BundleStore::open(&cache.join("bundles"), settings.bundle_limits())?;
    let environments = Environments::open(&cache.join("environments"), python.clone(), options)?;
    let home = Arc::new(OnceLock::new());
    let config = RuntimeConfig {
        max_runs: settings.max_runs,
        queue: settings.run_queue,
        caps: Limits {
            timeout: Duration::from_millis(settings.max_timeout_ms),
            memory_mb: settings.max_memory_mb,
            cpu_seconds: None,
            processes: settings.max_processes,
            network: settings.allow_network,
        },
        idle: Duration::from_secs(settings.idle_seconds),
        max_templates: settings.max_warm,
        ..RuntimeConfig::new(own.join("runtime"), python, std::env::current_exe()?)
    };
    let runtime = Runtime::start(config, Arc::new(Bridge(Arc::clone(&home)))).await?;
    let notes = &runtime.sandbox_report().notes;
    if settings.sandbox == Sandbox::Strict && !notes.is_empty() {
        return Err(StartError::Sandbox(notes.join("; ")));
    }
    for note in notes {
        tracing::warn!("policies run with less protection than they could: {note}");
    }
    Ok((Tools { runtime, bundles, environments }, Vacancy(home)))
}
