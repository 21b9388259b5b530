//! The way to the cluster: found when it is first needed, so that a cluster that is down, or not configured yet, does not
//! keep the server from starting.

use crate::error::{ApiError, Code};
use crate::settings::Settings;
use edict_kube::{Cluster, Fault};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::OnceCell;

/// A cluster that is connected to once.
pub(super) struct Clusters {
    kubeconfig: Option<PathBuf>,
    pub(super) timeout: Duration,
    connected: OnceCell<Cluster>,
}

impl Clusters {
    pub(super) fn new(settings: &Settings) -> Self {
        let kubeconfig = Some(settings.kubeconfig.clone()).filter(|path| !path.as_os_str().is_empty());
        let timeout = Duration::from_secs(settings.cluster_timeout_seconds);
        Self { kubeconfig, timeout, connected: OnceCell::new() }
    }

    /// The cluster.
    ///
    /// # Errors
    /// 503 when none is configured, or its configuration cannot be used.
    pub(super) async fn get(&self) -> Result<&Cluster, ApiError> {
        let connect = || Cluster::connect(self.kubeconfig.as_deref(), self.timeout);
        self.connected
            .get_or_try_init(connect)
            .await
            .map_err(|error| ApiError::new(Code::ClusterUnavailable, error.to_string()))
    }
}

/// What a fault of the cluster is answered with.
pub(super) fn refusal(fault: &Fault) -> ApiError {
    let code = match fault {
        Fault::NotFound { .. } => Code::TargetNotFound,
        Fault::Conflict { .. } => Code::TargetConflict,
        Fault::NoRevision { .. } => Code::RevisionNotFound,
        Fault::Forbidden { .. } | Fault::Unauthorized { .. } => Code::ClusterRefused,
        Fault::Unavailable { .. } | Fault::Busy { .. } => Code::ClusterUnavailable,
        Fault::Timeout { .. } => Code::ClusterTimeout,
        Fault::Refused { .. } => Code::ActionFailed,
    };
    let error = ApiError::new(code, fault.to_string());
    match fault {
        Fault::Busy { retry_after } => error.retry_after(*retry_after),
        _ => error,
    }
}
