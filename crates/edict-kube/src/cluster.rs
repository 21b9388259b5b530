//! The way to a cluster.

use crate::{handed_over, words};
use arc_swap::ArcSwap;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A Kubernetes cluster.
pub struct Cluster {
    source: Source,
    timeout: Duration,
    client: ArcSwap<Client>,
}

/// Where the credentials come from.
enum Source {
    /// Kubeconfigs; without one, the pod's service account.
    Files(Option<PathBuf>),
    /// They were handed over once and are kept in memory only.
    Given,
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
        let source = Source::Files(kubeconfig.map(Path::to_owned));
        Ok(Self { source, timeout, client: ArcSwap::from_pointee(client) })
    }

    /// With a kubeconfig that somebody handed over, as JSON: what `kubectl config view --raw --flatten --minify -o json`
    /// prints. Nothing is sent, and nothing is kept but the connection. `timeout` is as for [`connect`](Self::connect).
    ///
    /// # Errors
    /// It would run programs or read files here (`exec`, `auth-provider`, paths), is incomplete, or is no kubeconfig. No
    /// message holds what is secret in it.
    pub async fn from_kubeconfig(
        config: &serde_json::Value,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let kubeconfig = handed_over::checked(config).map_err(ConnectError::Invalid)?;
        let config = configuration(kubeconfig).await;
        let config = config.map_err(|error| ConnectError::Invalid(words::about(&error)))?;
        let client = built(config, timeout).await?;
        Ok(Self { source: Source::Given, timeout, client: ArcSwap::from_pointee(client) })
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
        let Source::Files(kubeconfig) = &self.source else {
            return Err(ConnectError::Invalid("it was given once and cannot be read again".to_owned()));
        };
        let client = Arc::new(client(kubeconfig.as_deref(), self.timeout).await?);
        self.client.store(Arc::clone(&client));
        Ok(client)
    }
}

async fn client(kubeconfig: Option<&Path>, timeout: Duration) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(paths) => {
            from_files(paths).await.map_err(|error| ConnectError::Invalid(words::about(&error)))?
        }
        None => Config::incluster().map_err(|_| ConnectError::NotConfigured)?,
    };
    built(config, timeout).await
}

async fn built(mut config: Config, timeout: Duration) -> Result<Client, ConnectError> {
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
    configuration(kubeconfig).await
}

async fn configuration(kubeconfig: Kubeconfig) -> Result<Config, KubeconfigError> {
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
