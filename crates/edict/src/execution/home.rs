//! Where an executor gets policies from and keeps what they remember: the registry beside it, or the policy system
//! that it registered with.

use super::Compiled;
use crate::error::{ApiError, Code};
use crate::functions;
use crate::policies::registry::{Registry, kept};
use crate::policies::{code, context};
use bytes::Bytes;
use dashmap::DashMap;
use edict_client::records::{ContextOp, PolicyState};
use edict_client::{Client, Error};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an executor takes a policy for current when nobody tells it the edition.
const TRUSTED: Duration = Duration::from_secs(1);

/// An executor's source of policies.
pub(crate) enum Home {
    /// The built-in executor: in the policy system's process.
    Registry(Arc<Registry>),
    /// An executor of its own.
    Remote(Remote),
}

/// The policy system, seen from an executor.
pub(crate) struct Remote {
    pub(crate) client: Client,
    pub(crate) executor_id: String,
    /// How many compiled policies are kept.
    keep: usize,
    compiled: DashMap<String, (Instant, Arc<Compiled>)>,
}

impl Remote {
    async fn compiled(&self, uri: &str, edition: Option<&str>) -> Result<Arc<Compiled>, ApiError> {
        if let Some(kept) = self.compiled.get(uri) {
            let (at, compiled) = kept.value();
            if edition.map_or(at.elapsed() < TRUSTED, |edition| edition == compiled.edition) {
                return Ok(Arc::clone(compiled));
            }
        }
        let policy = self.client.get_policy(uri).await.map_err(relay)?;
        let state = self.client.policy_state(&self.executor_id, uri).await.map_err(relay)?;
        let fresh = Arc::new(Compiled::new(policy, state)?);
        if self.compiled.len() >= self.keep {
            self.compiled.clear();
        }
        self.compiled.insert(uri.to_owned(), (Instant::now(), Arc::clone(&fresh)));
        Ok(fresh)
    }
}

impl Home {
    /// The policy system behind `client`, for the executor with this id that keeps `max_warm` policies warm.
    pub(crate) fn remote(client: Client, executor_id: String, max_warm: usize) -> Self {
        Self::Remote(Remote { client, executor_id, keep: kept(max_warm), compiled: DashMap::new() })
    }

    /// The policy system behind `client`, for one attempt of this policy: its token is good for no other.
    pub(crate) fn of_attempt(client: Client, executor_id: String, policy: Compiled) -> Self {
        let compiled = DashMap::new();
        compiled.insert(policy.uri.clone(), (Instant::now(), Arc::new(policy)));
        Self::Remote(Remote { client, executor_id, keep: 1, compiled })
    }

    /// The policy, ready to run; `edition` is the current one, if the caller knows it.
    pub(crate) async fn compiled(&self, uri: &str, edition: Option<&str>) -> Result<Arc<Compiled>, ApiError> {
        match self {
            Self::Registry(registry) => registry.compiled(uri).await,
            Self::Remote(remote) => remote.compiled(uri, edition).await,
        }
    }

    /// The digest of a policy's code, which pins it if that has not happened yet.
    pub(crate) async fn pin(&self, uri: &str) -> Result<String, ApiError> {
        match self {
            Self::Registry(registry) => code::pin(registry, uri).await,
            Self::Remote(remote) => Ok(remote.client.policy_code(uri).await.map_err(relay)?.digest),
        }
    }

    /// A policy's code.
    pub(crate) async fn bundle(&self, uri: &str, digest: &str) -> Result<Bytes, ApiError> {
        match self {
            Self::Registry(registry) => match registry.bundle(digest).await? {
                Some((_, bytes)) => Ok(bytes),
                None => Err(ApiError::internal(format!("the code {digest} of {uri} is not stored"))),
            },
            Self::Remote(remote) => Ok(remote.client.policy_code(uri).await.map_err(relay)?.content),
        }
    }

    /// One operation on the context of a policy or a function.
    pub(crate) async fn context(&self, uri: &str, operation: ContextOp) -> Result<Value, ApiError> {
        let function = functions::context::owner(uri);
        match self {
            Self::Registry(registry) => {
                if let Some(name) = function {
                    self.check_function(name).await?;
                }
                context::carry_out(&registry.store, uri, operation).await
            }
            Self::Remote(remote) => match function {
                Some(name) => remote.client.function_context(name, &operation).await.map_err(relay),
                None => remote.client.policy_context(uri, &operation).await.map_err(relay),
            },
        }
    }

    /// Keeps what a management command changed.
    pub(crate) async fn save_state(&self, uri: &str, change: PolicyState) -> Result<(), ApiError> {
        match self {
            Self::Registry(registry) => registry.save_state(&registry.executor_id, uri, change).await,
            Self::Remote(remote) => {
                remote.client.change_policy_state(&remote.executor_id, uri, &change).await.map_err(relay)?;
                remote.compiled.remove(uri);
                Ok(())
            }
        }
    }
}

/// The policy system's refusal, as this executor's answer.
pub(crate) fn relay(error: Error) -> ApiError {
    match error {
        Error::Api(error) => match Code::from_text(&error.code) {
            Some(code) => ApiError::new(code, error.message).details(error.details),
            None => ApiError::internal(format!("the policy system refused: {}", error.message)),
        },
        other => ApiError::new(
            Code::StorageUnavailable,
            "this executor cannot reach its policy system; try again, or look at the executor's log",
        )
        .details(other.to_string()),
    }
}
