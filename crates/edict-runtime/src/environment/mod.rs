//! Python, and the environments that policies with requirements run in.
use std::path::PathBuf;

/// A Python interpreter.
#[derive(Debug, Clone)]
pub struct Python {
    /// The interpreter itself, no wrapper script.
    pub executable: PathBuf,
    /// Its version.
    pub version: String,
    /// Folders that it must be able to read.
    pub roots: Vec<PathBuf>,
}

/// A virtual environment with a policy's requirements.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The environment's interpreter.
    pub python: PathBuf,
    /// The environment's folder.
    pub path: PathBuf,
    /// What identifies its content.
    pub digest: String,
}
