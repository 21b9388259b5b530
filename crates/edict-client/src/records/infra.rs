//! Infrastructure of executors: what the policy system makes in a Kubernetes cluster so that an executor runs there.

use super::{RunFault, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// A kubeconfig as JSON, for example what `kubectl config view --raw --flatten --minify -o json` prints.
///
/// INVARIANT (kubeconfig): a kubeconfig lives as long as the request that carries it. It is not stored, and neither logs nor
/// errors show it: `Debug` prints a mask.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterConfig(Value);

impl ClusterConfig {
    /// Takes the JSON as it is; the server says what is wrong with it.
    #[must_use]
    pub const fn new(config: Value) -> Self {
        Self(config)
    }

    /// The JSON itself, for whoever connects with it.
    #[must_use]
    pub const fn expose(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterConfig(***)")
    }
}

/// Body of `POST /executor/<id>/create-infra`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateInfra {
    /// A kubeconfig as JSON, whole: no files, no programs. It is used for this request and then forgotten.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub cluster_config: ClusterConfig,
    /// How long to wait for the executor to be healthy; 300 s when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Seconds>,
    /// What is made. What a later request leaves out stays as it was.
    #[serde(flatten)]
    pub options: InfraOptions,
}

/// What is made for an executor; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InfraOptions {
    /// Where: made if there is none. One of the executor's own when left out, `edict-` and a name made of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The image of the executor and of what it runs; the server's `pod_image` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The secret in the namespace with which the image is pulled; the server's `pod_pull_secret` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<String>,
    /// Runs that the executor carries out at the same time; its `max_runs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_processes: Option<u32>,
    /// How the cluster reaches the policy system; the server's `public_url` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
    /// How the policy system reaches the executor; found out when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_host_uri: Option<String>,
    /// The kind of the executor's Service; `NodePort` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<InfraExposure>,
    /// An ingress in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<InfraIngress>,
    /// Where pods share unpacked code and installed requirements: `node`, a folder of each node that is made for it;
    /// `none`; or `claim:NAME`, a volume. `node` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Memory that the executor's own pod may use, with the runs in it: `2Gi` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
}

impl InfraOptions {
    /// Every field that a payload may hold.
    #[must_use]
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "namespace",
            "image",
            "image_pull_secret",
            "max_processes",
            "server_url",
            "executor_host_uri",
            "exposure",
            "ingress",
            "cache",
            "memory_limit",
        ]
    }

    /// These, and where they say nothing, `earlier` ones.
    #[must_use]
    pub fn over(self, earlier: Self) -> Self {
        Self {
            namespace: self.namespace.or(earlier.namespace),
            image: self.image.or(earlier.image),
            image_pull_secret: self.image_pull_secret.or(earlier.image_pull_secret),
            max_processes: self.max_processes.or(earlier.max_processes),
            server_url: self.server_url.or(earlier.server_url),
            executor_host_uri: self.executor_host_uri.or(earlier.executor_host_uri),
            exposure: self.exposure.or(earlier.exposure),
            ingress: self.ingress.or(earlier.ingress),
            cache: self.cache.or(earlier.cache),
            memory_limit: self.memory_limit.or(earlier.memory_limit),
        }
    }
}

/// The kind of an executor's Service, in Kubernetes' words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum InfraExposure {
    /// A port of every node.
    #[default]
    NodePort,
    /// Inside the cluster only: for a policy system that runs there, or behind an ingress.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// An address from the cluster's load balancer.
    LoadBalancer,
}

/// An ingress in front of an executor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InfraIngress {
    /// The name under which the executor is reached.
    pub host: String,
    /// The ingress class; the cluster's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The secret in the namespace with the certificate; without one the executor is reached by http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<String>,
    /// For the ingress controller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Body of `DELETE /executor/<id>/remove-infra`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemoveInfra {
    /// A kubeconfig as JSON, as for making it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub cluster_config: Option<ClusterConfig>,
    /// Where to look for what was forgotten; only for an executor of which no infrastructure is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Forget the infrastructure even though the cluster cannot be reached, or does not let all of it go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// How long to wait until everything is gone; 300 s when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Seconds>,
}

/// What was removed of an executor's infrastructure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovedInfra {
    /// Whose it was.
    pub executor_id: String,
    /// False when there was none.
    pub removed: bool,
}

/// An executor's infrastructure as the policy system knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecutorInfra {
    /// Whose it is.
    pub executor_id: String,
    /// How far it is.
    pub infra_state: InfraState,
    /// What is being done, or was done last.
    pub step: String,
    /// The address of the cluster's API server.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Where it is.
    pub namespace: String,
    /// What the executor and what it runs are made of.
    pub image: String,
    /// How the executor reaches the policy system.
    pub server_url: String,
    /// How the policy system reaches the executor, once that is known.
    #[serde(default)]
    pub executor_host_uri: Option<String>,
    /// What the requests asked for.
    pub options: InfraOptions,
    /// Whether anything may be in the cluster.
    pub made: bool,
    /// What the last request failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunFault>,
    /// When it was first asked for.
    pub created_at: String,
    /// When this was last written.
    pub updated_at: String,
}

/// How far an executor's infrastructure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum InfraState {
    /// It is being made; the same request again resumes it if the server was stopped meanwhile.
    Creating,
    /// The executor was healthy when it had been made.
    Ready,
    /// A request failed: `error` says why. The same request again goes on; removing cleans up.
    Failed,
    /// It is being removed.
    Removing,
}

impl InfraState {
    /// The word that travels over the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Removing => "removing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kubeconfig_is_sent_but_never_printed() {
        let cluster_config = ClusterConfig::new(json!({"users": [{"user": {"token": "top-secret"}}]}));
        let create = CreateInfra { cluster_config, wait: None, options: InfraOptions::default() };
        assert!(!format!("{create:?}").contains("top-secret"));
        assert_eq!(
            serde_json::to_value(&create).unwrap(),
            json!({"cluster_config": {"users": [{"user": {"token": "top-secret"}}]}})
        );
    }

    #[test]
    fn what_is_left_out_stays_as_it_was() {
        let read = |options| serde_json::from_value::<InfraOptions>(options).unwrap();
        let earlier = read(json!({"namespace": "a", "exposure": "ClusterIP", "image": "old"}));
        let later = read(json!({"image": "new", "max_processes": 8}));
        let both = json!({"namespace": "a", "exposure": "ClusterIP", "image": "new", "max_processes": 8});
        assert_eq!(later.over(earlier), read(both));
    }

    #[test]
    fn every_option_is_known() {
        let text = InfraOptions::known_fields().join(" ");
        let ingress = InfraIngress { host: "h".to_owned(), ..InfraIngress::default() };
        let all = InfraOptions {
            namespace: Some(String::new()),
            image: Some(String::new()),
            image_pull_secret: Some(String::new()),
            max_processes: Some(1),
            server_url: Some(String::new()),
            executor_host_uri: Some(String::new()),
            exposure: Some(InfraExposure::default()),
            ingress: Some(ingress),
            cache: Some(String::new()),
            memory_limit: Some(String::new()),
        };
        let all = serde_json::to_value(all).unwrap();
        let mut names: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known: Vec<&str> = text.split(' ').collect();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
