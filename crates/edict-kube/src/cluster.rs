//! The way to a cluster.

use crate::words;
use arc_swap::ArcSwap;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A Kubernetes cluster.
pub struct Cluster {
    kubeconfig: Option<PathBuf>,
    timeout: Duration,
    client: ArcSwap<Client>,
}

/// Why there is no way to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no kubeconfig, and this is no pod.
    #[error("no cluster is configured: set KUBECONFIG, or run Edict in a pod that has a service account")]
    NotConfigured,
    /// What is configured cannot be used.
    #[error("the cluster's configuration cannot be used: {0}")]
    Invalid(String),
}

impl Cluster {
    /// Reads the kubeconfig (several, separated by `:`, are merged as by `kubectl`); without one the service account of the
    /// pod that this runs in. Nothing is sent: an API server that is down now is found by the first action.
    ///
    /// `timeout` is how long the API server has for each answer; half of it, for a connection. When the API server does not
    /// accept the credentials, everything is read again, so that a renewed token needs no restart.
    ///
    /// # Errors
    /// Nothing is configured, or it cannot be read.
    pub async fn connect(kubeconfig: Option<&Path>, timeout: Duration) -> Result<Self, ConnectError> {
        let client = client(kubeconfig, timeout).await?;
        let kubeconfig = kubeconfig.map(Path::to_owned);
        Ok(Self { kubeconfig, timeout, client: ArcSwap::from_pointee(client) })
    }

    /// How long the API server has for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn client(&self) -> Arc<Client> {
        self.client.load_full()
    }

    /// Reads the configuration and the credentials again.
    pub(crate) async fn reconnect(&self) -> Result<Arc<Client>, ConnectError> {
        let client = Arc::new(client(self.kubeconfig.as_deref(), self.timeout).await?);
        self.client.store(Arc::clone(&client));
        Ok(client)
    }
}

async fn client(kubeconfig: Option<&Path>, timeout: Duration) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        Some(paths) => {
            from_files(paths).await.map_err(|error| ConnectError::Invalid(words::about(&error)))?
        }
        None => Config::incluster().map_err(|_| ConnectError::NotConfigured)?,
    };
    config.connect_timeout = Some(timeout / 2);
    // A change that is sent again may be done twice; whoever asked decides about that.
    config.default_retry = false;
    // Programs that fetch credentials run here, and may take their time.
    let built = tokio::task::spawn_blocking(move || Client::try_from(config)).await;
    match built {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(ConnectError::Invalid(words::about(&error))),
        // kube-rs panics at a token that no header can hold, such as one with a line break at its end.
        Err(_) => {
            Err(ConnectError::Invalid("its token holds characters that no request can carry".to_owned()))
        }
    }
}

async fn from_files(paths: &Path) -> Result<Config, KubeconfigError> {
    let mut kubeconfig = Kubeconfig::default();
    for path in std::env::split_paths(paths) {
        kubeconfig = kubeconfig.merge(Kubeconfig::read_from(path)?)?;
    }
    let proxy = proxy_of_current(&kubeconfig);
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // kube-rs also takes the proxy of the environment, and then for the cluster even where NO_PROXY names it.
    config.proxy_url = match proxy {
        Some(proxy) => Some(proxy.parse().map_err(KubeconfigError::ParseProxyUrl)?),
        None => None,
    };
    Ok(config)
}

/// The `proxy-url` of the current context's cluster.
fn proxy_of_current(kubeconfig: &Kubeconfig) -> Option<String> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|proxy| !proxy.is_empty())
}
