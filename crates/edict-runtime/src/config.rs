//! How a runtime is set up.

use std::path::PathBuf;
use std::time::Duration;

use crate::Limits;
use crate::environment::Python;

/// Settings of a [`crate::Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// A folder of this runtime's own, which it creates: the worker's file, mount points, temporary folders.
    pub dir: PathBuf,
    /// The interpreter for policies without requirements.
    pub python: Python,
    /// A program that calls [`crate::launch::main`] when [`crate::launch::requested`]; usually the running one.
    pub launcher: PathBuf,
    /// Runs at the same time, over all policies. Default 32.
    pub max_runs: usize,
    /// Runs that may wait for their turn; further ones are refused as busy. Default 1024.
    pub queue: usize,
    /// Upper bounds of what policies may ask for.
    pub caps: Limits,
    /// Templates that nobody has used for this long are stopped. Default 10 minutes.
    pub idle: Duration,
    /// Templates kept; the least recently used are stopped beyond that. Default 64.
    pub max_templates: usize,
    /// Bytes of output (stdout, stderr, log records) after which a run is ended. Default 8 MiB.
    pub output_limit: usize,
    /// Bytes of a result as JSON. Default 16 MiB.
    pub result_limit: usize,
    /// Bytes of log messages kept per run; later ones are dropped with a note. Default 1 MiB.
    pub log_limit: usize,
    /// Size in MiB of a run's temporary folder, and of any one file in it. Default 64.
    pub tmp_mb: u64,
    /// Use namespaces when the kernel gives them. Default true; false is for hosts where they do harm.
    pub namespaces: bool,
}

impl RuntimeConfig {
    /// The defaults, with what has none.
    #[must_use]
    pub fn new(dir: PathBuf, python: Python, launcher: PathBuf) -> Self {
        let caps = Limits {
            timeout: Duration::from_secs(3600),
            memory_mb: 1 << 16,
            cpu_seconds: None,
            processes: 1024,
            network: true,
        };
        Self {
            dir,
            python,
            launcher,
            max_runs: 32,
            queue: 1024,
            caps,
            idle: Duration::from_secs(600),
            max_templates: 64,
            output_limit: 8 << 20,
            result_limit: 16 << 20,
            log_limit: 1 << 20,
            tmp_mb: 64,
            namespaces: true,
        }
    }
}
