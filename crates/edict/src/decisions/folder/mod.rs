//! The watched folder of decision policies (`decisions_dir`): YAML and JSON files, read-only to the API.

pub(crate) mod files;
pub(crate) mod status;
mod watch;

use super::{OpenError, record};
use arc_swap::ArcSwap;
use edict_client::records::{DecisionPolicy, PolicySource};
use files::Filed;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The folder, if there is one.
pub(super) struct Folder {
    dir: Option<PathBuf>,
    /// Its last good state.
    loaded: ArcSwap<Loaded>,
    /// Why its present state is not in force.
    fault: Mutex<Option<String>>,
}

/// A good state of the folder.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// By name.
    pub(super) policies: Vec<Filed>,
    at: Option<String>,
}

impl Folder {
    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// When it cannot be used. There is no last good state yet, and without the folder's denies the database's allows
    /// might allow what they forbid.
    pub(super) async fn open(dir: &Path) -> Result<Self, OpenError> {
        metrics::describe_gauge!(
            "edict_decisions_folder_ok",
            "Whether the decision policies in force are those that the watched folder holds"
        );
        let mut folder = Self { dir: None, loaded: ArcSwap::default(), fault: Mutex::new(None) };
        if dir.as_os_str().is_empty() {
            return Ok(folder);
        }
        let loaded = read(dir.to_path_buf()).await.map_err(OpenError::Folder)?;
        folder.loaded.store(Arc::new(loaded));
        folder.dir = Some(dir.to_path_buf());
        folder.report(None);
        Ok(folder)
    }

    pub(super) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// Tells the metrics, and the log when it is news.
    fn report(&self, fault: Option<String>) {
        metrics::gauge!("edict_decisions_folder_ok").set(if fault.is_none() { 1.0 } else { 0.0 });
        let mut known = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == fault {
            return;
        }
        match &fault {
            Some(fault) => tracing::error!(
                fault,
                "the folder of decision policies cannot be used; its last good state stays in force"
            ),
            None => tracing::info!("the folder of decision policies is good again"),
        }
        *known = fault;
    }
}

impl Loaded {
    /// The policy with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Filed> {
        let found = self.policies.binary_search_by(|filed| filed.policy.name.as_str().cmp(name));
        self.policies.get(found.ok()?)
    }

    /// What is wrong when policies with the names in `stored` are in the database.
    pub(super) fn clash(&self, stored: &BTreeSet<String>) -> Option<String> {
        let filed = self.policies.iter().find(|filed| stored.contains(&filed.policy.name))?;
        Some(format!(
            "{}: `name` is `{}`, which a decision policy in the database has; rename one, or delete that one",
            filed.place("name"),
            crate::shorten(&filed.policy.name)
        ))
    }
}

impl Filed {
    /// As the API shows it.
    pub(super) fn record(&self) -> DecisionPolicy {
        DecisionPolicy {
            id: self.policy.name.clone(),
            source: PolicySource::Folder,
            file: Some(self.file.to_string()),
            ..record::bare(self.policy.clone())
        }
    }
}

async fn read(dir: PathBuf) -> Result<Loaded, String> {
    let read = tokio::task::spawn_blocking(move || files::read(&dir)).await;
    let policies = read.map_err(|error| error.to_string())??;
    Ok(Loaded { policies, at: Some(crate::now()) })
}
