//! A registry and an executor without a server: for one policy, in a temporary folder, gone afterwards.

use super::super::failure::Failure;
use super::folder::{PolicyFolder, Problem};
use crate::error::ApiError;
use crate::execution::{Finished, Runner};
use crate::policies::registry::Registry;
use crate::policies::{code, create, record};
use crate::server;
use crate::settings::SettingsArgs;
use crate::store::Store;
use edict_client::records::{ExecutePolicy, Policy};
use edict_runtime::bundle::{self, Bundle};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub(super) struct Local {
    registry: Arc<Registry>,
    runner: Arc<Runner>,
    /// Removed when dropped.
    _folder: TempDir,
}

impl Local {
    /// Starts with the settings of the environment and `edict.toml`. Caches are the server's: requirements that it has
    /// installed are not installed again.
    pub(super) async fn start() -> Result<Self, Failure> {
        let settings =
            SettingsArgs::default().load().map_err(|error| Failure::usage(error.to_string()))?.settings;
        let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        let store = Store::open_private(folder.path()).await.map_err(|error| failed(&error))?;
        let assembled = server::assemble(&settings, store, folder.path(), Vec::new()).await;
        let (registry, runner) = assembled.map_err(|error| failed(&error))?;
        Ok(Self { registry, runner, _folder: folder })
    }

    /// Ends every process.
    pub(super) async fn stop(self) {
        self.runner.tools.runtime.stop(Duration::from_secs(1)).await;
        self.registry.store.close().await;
    }

    /// Checks what the server would check on registration.
    pub(super) async fn check(&self, folder: &PolicyFolder) -> Result<(Policy, Bundle), Vec<Problem>> {
        let in_code = |message: String| Problem { file: "code", field: None, message };
        let in_file = |error: ApiError| Problem {
            file: "policy.yaml",
            field: None,
            message: error.message().to_owned(),
        };
        let mut payload = folder.record.clone();
        payload.insert("code".to_owned(), "code/function.py".into());
        let policy = record::from_payload(payload, None).map_err(in_file);
        let archive = bundle::pack(&folder.path).map_err(|error| in_code(error.to_string()));
        let bundle = archive.and_then(|archive| {
            Bundle::from_archive(archive, &self.registry.limits).map_err(|error| in_code(error.to_string()))
        });
        let bundle = match bundle {
            Ok(bundle) => code::check_class(&self.registry, &bundle)
                .await
                .map(|()| bundle)
                .map_err(|error| in_code(error.message().to_owned())),
            Err(problem) => Err(problem),
        };
        match (policy, bundle) {
            (Ok(policy), Ok(bundle)) => {
                Ok((Policy { code_digest: Some(bundle.digest.clone()), ..policy }, bundle))
            }
            (policy, bundle) => Err(policy.err().into_iter().chain(bundle.err()).collect()),
        }
    }

    /// Registers a checked policy here and runs it once.
    pub(super) async fn run(
        &self,
        (policy, bundle): &(Policy, Bundle),
        request: ExecutePolicy,
    ) -> Result<Finished, Failure> {
        create::store(&self.registry, policy, Some(bundle)).await?;
        Ok(self.runner.execute(request, None).await?)
    }
}
