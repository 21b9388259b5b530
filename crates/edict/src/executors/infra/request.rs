//! The bodies of both requests. They hold credentials, so they are taken apart here: no message shows what is in them.

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::http::{decode, document};
use bytes::Bytes;
use edict_client::records::{ClusterConfig, InfraOptions, Object, Seconds};
use edict_kube::Cluster;
use serde_json::{Value, json};
use std::time::Duration;

/// How long to wait unless the request says otherwise.
const WAIT: Duration = Duration::from_secs(300);
/// Longest wait that a request may ask for.
const LONGEST: Duration = Duration::from_secs(3600);

/// What is to be made.
pub(super) struct Create {
    pub(super) cluster_config: ClusterConfig,
    pub(super) wait: Duration,
    pub(super) options: InfraOptions,
}

/// What is to be removed.
pub(super) struct Remove {
    pub(super) cluster_config: Option<ClusterConfig>,
    pub(super) wait: Duration,
    pub(super) namespace: Option<String>,
    pub(super) force: bool,
}

impl Create {
    /// # Errors
    /// 400 for a body that is not of this shape.
    pub(super) fn read(body: &Bytes) -> Result<Self, ApiError> {
        let mut fields: Object = decode(body)?;
        let config = fields.remove("cluster_config").filter(|config| !config.is_null());
        let cluster_config = config.map(ClusterConfig::new).ok_or_else(no_config)?;
        let wait = wait(fields.remove("wait"))?;
        let mut known = InfraOptions::known_fields().to_vec();
        known.extend(["cluster_config", "wait"]);
        Ok(Self { cluster_config, wait, options: document(fields, &known)? })
    }
}

impl Remove {
    /// # Errors
    /// 400 for a body that is not of this shape.
    pub(super) fn read(body: &Bytes) -> Result<Self, ApiError> {
        let mut fields: Object = if body.is_empty() { Object::new() } else { decode(body)? };
        let config = fields.remove("cluster_config").filter(|config| !config.is_null());
        let wait = wait(fields.remove("wait"))?;
        let force = match fields.remove("force") {
            None => false,
            Some(Value::Bool(force)) => force,
            Some(_) => return Err(invalid("force", "must be true or false")),
        };
        let options: InfraOptions = document(fields, &["namespace", "cluster_config", "wait", "force"])?;
        Ok(Self { cluster_config: config.map(ClusterConfig::new), wait, namespace: options.namespace, force })
    }
}

fn wait(field: Option<Value>) -> Result<Duration, ApiError> {
    let Some(wait) = field.filter(|wait| !wait.is_null()) else { return Ok(WAIT) };
    let wait: Seconds = serde_json::from_value(wait).map_err(|error| invalid("wait", &error.to_string()))?;
    Ok(wait.duration().min(LONGEST))
}

/// The error for a field that cannot be used.
pub(super) fn invalid(field: &str, problem: &str) -> ApiError {
    ApiError::new(Code::InvalidField, format!("field `{field}`: {problem}")).details(json!({"field": field}))
}

/// The error when the kubeconfig is missing.
pub(super) fn no_config() -> ApiError {
    invalid(
        "cluster_config",
        "is missing: give the cluster's kubeconfig as JSON, as `kubectl config view --raw --flatten --minify -o json` \
         prints it",
    )
}

/// Gets ready to talk to the cluster; nothing is sent yet.
///
/// # Errors
/// 400 for a kubeconfig that cannot be used.
pub(super) async fn connect(app: &App, config: &ClusterConfig) -> Result<Cluster, ApiError> {
    let timeout = Duration::from_secs(app.settings.cluster_timeout_seconds);
    let connected = Cluster::from_kubeconfig(config.expose(), timeout).await;
    connected.map_err(|error| invalid("cluster_config", &error.to_string()))
}

/// The address of the API server that a kubeconfig leads to, without what proves who one is.
pub(super) fn server(config: &ClusterConfig) -> Option<String> {
    let config = config.expose();
    let named = |list: &str, name: &Value| {
        let entries = config.get(list)?.as_array()?;
        entries.iter().find(|entry| entry.get("name") == Some(name))
    };
    let context = named("contexts", config.get("current-context")?)?;
    let cluster = named("clusters", context.pointer("/context/cluster")?)?;
    let mut url = reqwest::Url::parse(cluster.pointer("/cluster/server")?.as_str()?).ok()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_that_of_the_current_context() {
        let config = json!({
            "current-context": "b",
            "contexts": [{"name": "a", "context": {"cluster": "x"}}, {"name": "b", "context": {"cluster": "y"}}],
            "clusters": [{"name": "x", "cluster": {"server": "https://x"}},
                         {"name": "y", "cluster": {"server": "https://me:secret@y:6443/"}}],
        });
        assert_eq!(server(&ClusterConfig::new(config)).as_deref(), Some("https://y:6443"));
        let sample = json!({"provider": "kubernetes", "region": "us-west"});
        assert_eq!(server(&ClusterConfig::new(sample)), None);
    }

    #[test]
    fn bodies_that_do_not_fit_say_which_field() {
        let create = |body: Value| {
            Create::read(&body.to_string().into()).err().map(|error| error.message().to_owned())
        };
        let config = json!({"kind": "Config"});
        assert_eq!(create(json!({"cluster_config": config})), None);
        for (body, named) in [
            (json!({}), "cluster_config"),
            (json!({"cluster_config": null}), "cluster_config"),
            (json!({"cluster_config": config, "wait": "soon"}), "wait"),
            (json!({"cluster_config": config, "max_processes": "many"}), "max_processes"),
            (json!({"cluster_config": config, "exposure": "Everywhere"}), "exposure"),
            (json!({"cluster_config": config, "imgae": "x"}), "did you mean `image`"),
        ] {
            let message = create(body).unwrap();
            assert!(message.contains(named), "{message}");
        }
        assert!(Remove::read(&Bytes::new()).is_ok_and(|remove| !remove.force));
        assert!(Remove::read(&"{\"image\": \"x\"}".into()).is_err());
    }
}
