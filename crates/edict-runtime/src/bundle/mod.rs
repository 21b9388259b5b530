//! A policy's code on disk.
use std::path::PathBuf;

/// A folder that holds a policy's `function.py`.
#[derive(Debug, Clone)]
pub struct CodeDir {
    /// The folder that goes on `sys.path`.
    pub path: PathBuf,
    /// What the policy's requirements file says, when it has one.
    pub requirements: Option<String>,
}
