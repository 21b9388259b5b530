//! What an executor on Kubernetes runs jobs and functions with, put together from its settings.

use super::hardware;
use crate::error::{ApiError, Code};
use crate::http::Peers;
use crate::jobs::seal::Seal;
use crate::server::ServeError;
use crate::settings::{Secret, Settings};
use edict_client::records::{ExecutionLimits, Object};
use edict_kube::{Cache, Cluster, Mark, PodOptions, Workloads};
use edict_runtime::Limits;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a pod finds its own namespace.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The pods of an executor.
pub(crate) struct Pods {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) workloads: Arc<Workloads>,
    /// The way to its pods: no proxy is in between.
    pub(crate) peers: Arc<Peers>,
    max_timeout: Duration,
    max_memory_mb: u64,
    /// What tokens for calling replicas are made from: the same after a restart, since replicas outlive this process.
    key: String,
    /// For tokens of attempts.
    pub(crate) seal: Seal,
    /// It may hold a password.
    index_url: Secret,
}

impl Pods {
    /// Connects to the cluster that this runs in, or that `kubeconfig` names, and looks what is there.
    ///
    /// # Errors
    /// When there is no cluster, it cannot be looked into, or a setting is missing.
    pub(crate) async fn open(settings: &Settings, executor_id: &str) -> Result<Arc<Self>, ServeError> {
        let missing = |name: &str| {
            ServeError::Registration(format!(
                "`backend` is `kubernetes`, which needs the setting `{name}`; executors that `edict executor add-infra` makes have it"
            ))
        };
        if settings.system_id.is_empty() {
            return Err(missing("system_id"));
        }
        let namespace = match settings.pod_namespace.as_str() {
            "" => std::fs::read_to_string(NAMESPACE).map_err(|_| missing("pod_namespace"))?.trim().to_owned(),
            namespace => namespace.to_owned(),
        };
        let kubeconfig = Some(settings.kubeconfig.as_path()).filter(|path| !path.as_os_str().is_empty());
        let timeout = Duration::from_secs(settings.cluster_timeout_seconds);
        let cluster = Cluster::connect(kubeconfig, timeout)
            .await
            .map_err(|error| ServeError::Registration(error.to_string()))?;
        let cluster = Arc::new(cluster);
        let mark = Mark { system: settings.system_id.clone(), executor_id: executor_id.to_owned() };
        let seal = Seal::of_executor(settings.server_token.expose()).map_err(ApiError::internal)?;
        let workloads = Workloads::start(Arc::clone(&cluster), mark, namespace, options(settings, &seal))
            .await
            .map_err(|fault| ServeError::Registration(fault.to_string()))?;
        Ok(Arc::new(Self {
            cluster,
            workloads,
            peers: Peers::without_proxy()?,
            max_timeout: Duration::from_millis(settings.max_timeout_ms),
            max_memory_mb: settings.max_memory_mb,
            key: settings.server_token.expose().to_owned(),
            seal,
            index_url: settings.index_url.clone(),
        }))
    }

    /// What the cluster has, as an executor's record tells it, if its nodes are for this executor to see.
    pub(crate) async fn hardware(&self) -> Option<Object> {
        match self.cluster.nodes().await {
            Ok(nodes) => Some(hardware::of_nodes(&nodes)),
            Err(fault) => {
                tracing::debug!(%fault, "the cluster does not show its nodes");
                None
            }
        }
    }

    /// Longest time of a run with these limits.
    pub(crate) fn timeout(&self, limits: &ExecutionLimits) -> Duration {
        let asked = limits.timeout_ms.map_or(Limits::default().timeout, Duration::from_millis);
        asked.min(self.max_timeout)
    }

    /// Memory of a run with these limits.
    pub(crate) fn memory_mb(&self, limits: &ExecutionLimits) -> u64 {
        limits.memory_mb.unwrap_or(Limits::default().memory_mb).min(self.max_memory_mb)
    }

    /// What a function's replicas get that nobody else may read.
    pub(crate) fn secret(&self, server_token: String) -> BTreeMap<String, String> {
        secret(&self.index_url, ("EDICT_SERVER_TOKEN", server_token))
    }

    /// What a function's replicas want to see from who calls them.
    ///
    /// # Errors
    /// Never in practice.
    pub(crate) fn call_token(&self, function: &str, created_at: &str) -> Result<String, ApiError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).map_err(ApiError::internal)?;
        for part in ["call", function, created_at] {
            mac.update(part.as_bytes());
            mac.update(b"/");
        }
        Ok(hex::encode(mac.finalize().into_bytes()))
    }
}

/// Variables that nobody else may read.
fn secret(index_url: &Secret, (name, value): (&str, String)) -> BTreeMap<String, String> {
    let index = index_url.given().map(|index| ("EDICT_INDEX_URL".to_owned(), index.to_owned()));
    [(name.to_owned(), value)].into_iter().chain(index).collect()
}

/// What all pods share.
fn options(settings: &Settings, seal: &Seal) -> PodOptions {
    let env = BTreeMap::from([
        ("EDICT_BIND".to_owned(), "0.0.0.0".to_owned()),
        ("EDICT_SERVER_URL".to_owned(), settings.server_url.clone()),
        ("EDICT_EXECUTOR_ID".to_owned(), settings.executor_id.clone()),
        ("EDICT_MAX_TIMEOUT_MS".to_owned(), settings.max_timeout_ms.to_string()),
        ("EDICT_MAX_MEMORY_MB".to_owned(), settings.max_memory_mb.to_string()),
        ("EDICT_ALLOW_NETWORK".to_owned(), settings.allow_network.to_string()),
        ("EDICT_LOG_LEVEL".to_owned(), settings.log_level.clone()),
    ]);
    PodOptions {
        image: settings.pod_image.clone(),
        image_pull_secret: Some(settings.pod_pull_secret.clone()).filter(|name| !name.is_empty()),
        env,
        job_secret: secret(&settings.index_url, ("EDICT_JOB_KEY", seal.expose().to_owned())),
        cache: match settings.pod_cache.split_once(':') {
            _ if settings.pod_cache.is_empty() => Cache::PerPod,
            Some(("claim", name)) => Cache::Claim(name.to_owned()),
            _ => Cache::Node(settings.pod_cache.clone()),
        },
        cpu_request: settings.pod_cpu_request.clone(),
        ..PodOptions::default()
    }
}

/// The error for what a cluster refuses or cannot do.
pub(crate) fn refusal(fault: &edict_kube::Fault) -> ApiError {
    ApiError::new(Code::PodFailed, format!("the cluster does not take it: {fault}"))
}
