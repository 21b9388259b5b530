//! What an executor's functions need from its home: what to run, the code, and a place for what lasts.

use super::{FUNCTIONS, changes, status};
use crate::error::ApiError;
use crate::execution::{Home, relay};
use crate::store::Statement;
use bytes::Bytes;
use edict_client::records::{AssignedFunction, Function, FunctionChanges, FunctionStatus, PolicyState};

impl Home {
    /// The functions that this executor is to run, as far as is needed to see which of them changed.
    pub(crate) async fn assigned_functions(&self) -> Result<Vec<AssignedFunction>, ApiError> {
        match self {
            Self::Registry(registry) => super::assigned::to(&registry.store, &registry.executor_id).await,
            Self::Remote(remote) => {
                remote.client.assigned_functions(&remote.executor_id).await.map_err(relay)
            }
        }
    }

    /// A function with what management commands changed of it.
    pub(crate) async fn function(&self, name: &str) -> Result<(Function, FunctionChanges), ApiError> {
        match self {
            Self::Registry(registry) => {
                let document = FUNCTIONS.get(&registry.store, name).await?;
                let function = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
                Ok((function, changes::kept(&registry.store, name).await?))
            }
            Self::Remote(remote) => remote.client.assigned_function(name).await.map_err(relay),
        }
    }

    /// Tells what a function's replicas are doing.
    pub(crate) async fn report_function(&self, name: &str, now: &FunctionStatus) -> Result<(), ApiError> {
        match self {
            Self::Registry(registry) => status::write(&registry.store, name, now).await,
            Self::Remote(remote) => remote.client.report_function(name, now).await.map_err(relay),
        }
    }

    /// A token for a function's replicas in pods.
    pub(crate) async fn function_token(&self, name: &str) -> Result<String, ApiError> {
        match self {
            Self::Registry(_) => Err(ApiError::internal("the functions of this executor have no pods")),
            Self::Remote(remote) => Ok(remote.client.function_token(name).await.map_err(relay)?.token),
        }
    }

    /// Keeps what a management command changed of a function, and returns all such changes together.
    pub(crate) async fn change_function(
        &self,
        name: &str,
        change: PolicyState,
    ) -> Result<FunctionChanges, ApiError> {
        match self {
            Self::Registry(registry) => changes::keep(&registry.store, name, change).await,
            Self::Remote(remote) => remote.client.change_function(name, &change).await.map_err(relay),
        }
    }

    /// The code that a function's replicas run, which may no longer be that of its policy.
    pub(crate) async fn function_code(&self, name: &str, digest: &str) -> Result<Bytes, ApiError> {
        match self {
            Self::Registry(registry) => match registry.bundle(digest).await? {
                Some((_, bytes)) => Ok(bytes),
                None => {
                    Err(ApiError::internal(format!("the code {digest} of function {name} is not stored")))
                }
            },
            Self::Remote(remote) => Ok(remote.client.function_code(name).await.map_err(relay)?.content),
        }
    }

    /// Checks that the function is still there: what its last calls write must not outlive it.
    ///
    /// # Errors
    /// 404.
    pub(crate) async fn check_function(&self, name: &str) -> Result<(), ApiError> {
        let Self::Registry(registry) = self else { return Ok(()) };
        let sql = "SELECT revision FROM functions WHERE key = $1";
        let row = registry.store.fetch_one::<(i64,)>(Statement::new(sql).bind(name)).await?;
        row.map(drop).ok_or_else(|| FUNCTIONS.missing(name))
    }
}
