//! Infrastructure of executors: what is made in a Kubernetes cluster so that one runs there, and its removal.
//!
//! A request claims an executor's row for itself ([`claim`]), works under that lease in a task of its own, which a caller that
//! goes away does not end, and writes down how far it came. A server that is killed in the middle leaves a lease that runs out;
//! the same request again goes on from there, since each step may be done twice.

mod claim;
pub(crate) mod create;
mod plan;
pub(crate) mod read;
pub(crate) mod remove;
mod request;
mod watch;

use crate::error::{ApiError, Code};
use crate::store::Store;
use claim::Claim;
use edict_kube::Fault;
use serde_json::json;

/// Refuses to do something to the record of an executor that has infrastructure, whose names are made from its id.
///
/// # Errors
/// 409 `infra_exists`.
pub(super) async fn refuse(store: &Store, id: &str, what: &str) -> Result<(), ApiError> {
    match Claim::peek(store, id).await? {
        None => Ok(()),
        Some(infra) => Err(ApiError::new(
            Code::InfraExists,
            format!(
                "executor `{id}` has infrastructure in a cluster and cannot be {what}: remove that first, with \
                 `DELETE /executor/{id}/remove-infra`"
            ),
        )
        .details(json!({"infra_state": infra.infra_state, "namespace": infra.namespace}))),
    }
}

/// What a fault of the cluster is answered with.
fn refusal(fault: &Fault) -> ApiError {
    let (code, message) = match fault {
        Fault::Forbidden { right } => {
            (Code::ClusterRefused, format!("the user of the kubeconfig may not {right}: give it that right"))
        }
        Fault::Unauthorized { message } => (
            Code::ClusterRefused,
            format!(
                "the cluster does not accept the credentials of the kubeconfig, which may have expired: {message}"
            ),
        ),
        Fault::Conflict { why } => (Code::InfraConflict, why.clone()),
        Fault::Unavailable { .. } | Fault::Busy { .. } => (Code::ClusterUnavailable, fault.to_string()),
        Fault::Timeout { .. } => (Code::ClusterTimeout, fault.to_string()),
        Fault::Refused { .. } | Fault::NotFound { .. } | Fault::NoRevision { .. } => {
            (Code::InfraFailed, format!("the cluster does not take it: {fault}"))
        }
    };
    let error = ApiError::new(code, message);
    match fault {
        Fault::Busy { retry_after } => error.retry_after(*retry_after),
        _ => error,
    }
}
