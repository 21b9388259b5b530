//! What all pods of an executor share.

use std::collections::BTreeMap;
use std::time::Duration;

/// Where a pod keeps unpacked code and installed requirements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Cache {
    /// In itself, for as long as it lives.
    #[default]
    PerPod,
    /// In this folder of its node, which must let user 10001 write.
    Node(String),
    /// In the volume of this claim, which many nodes must be able to write to.
    Claim(String),
}

/// What all pods of an executor share.
#[derive(Debug, Clone)]
pub struct PodOptions {
    /// What they are made of.
    pub image: String,
    /// The secret with which it is pulled.
    pub image_pull_secret: Option<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Variables of jobs that nobody else may read. All jobs share them: a secret for each would cost two of the few requests that
    /// a node makes per second.
    pub job_secret: BTreeMap<String, String>,
    /// Where they keep unpacked code and installed requirements.
    pub cache: Cache,
    /// Processor time that each asks for, as Kubernetes writes it; nothing if empty.
    pub cpu_request: String,
    /// What runs instead of the image's own program.
    #[doc(hidden)]
    pub command: Option<Vec<String>>,
    /// How long a job's pod may be held up by its image or its configuration.
    #[doc(hidden)]
    pub patience: Duration,
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            image: String::new(),
            image_pull_secret: None,
            env: BTreeMap::new(),
            job_secret: BTreeMap::new(),
            cache: Cache::default(),
            cpu_request: String::new(),
            command: None,
            // A registry may be away for a moment, and a node tries again by itself.
            patience: Duration::from_secs(60),
        }
    }
}
