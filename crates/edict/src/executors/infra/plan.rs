//! What is to be there, from what the request and the settings say.

use super::claim::Claim;
use super::request::invalid;
use crate::app::App;
use crate::auth::Scope;
use crate::error::{ApiError, Code};
use crate::executors::record::check_host;
use edict_client::records::{ExecutorInfra, InfraExposure, InfraOptions, InfraState};
use edict_kube::{Exposure, Infra, Ingress, Mark, is_label};
use serde_json::json;
use std::collections::BTreeMap;

/// Where an executor listens.
const PORT: u16 = 10250;
/// Attempts of jobs at the same time: each is a pod of its own, so that the cluster is the limit.
const MAX_JOBS: &str = "256";

/// The marks of an executor's objects.
pub(super) fn mark(app: &App, id: &str) -> Mark {
    Mark { system: app.scopes.system_id().to_owned(), executor_id: id.to_owned() }
}

/// The record of an executor of which nothing is known yet.
pub(super) fn blank(id: &str, state: InfraState) -> ExecutorInfra {
    ExecutorInfra {
        executor_id: id.to_owned(),
        infra_state: state,
        step: String::new(),
        cluster: None,
        namespace: String::new(),
        image: String::new(),
        server_url: String::new(),
        executor_host_uri: None,
        options: InfraOptions::default(),
        made: false,
        error: None,
        created_at: crate::now(),
        updated_at: crate::now(),
    }
}

/// Puts what is asked for into the claim's record, and returns what is to be made.
///
/// # Errors
/// 400 for an option that cannot be used, 403 when this server is open, 409 when there is something elsewhere.
pub(super) fn plan(
    app: &App,
    claim: &mut Claim,
    options: InfraOptions,
    server: Option<String>,
) -> Result<Infra, ApiError> {
    let options = options.over(claim.infra.options.clone());
    let usual = || Infra::default_namespace(&mark(app, &claim.infra.executor_id));
    let namespace = options.namespace.clone().unwrap_or_else(usual);
    if !is_label(&namespace) {
        let problem =
            "use lower-case letters, digits and dashes, beginning and ending with a letter or digit";
        return Err(invalid(
            "namespace",
            &format!("`{}` is no namespace: {problem}", crate::shorten(&namespace)),
        ));
    }
    check_place(&claim.infra, server.as_deref(), &namespace)?;
    let infra = &mut claim.infra;
    infra.infra_state = InfraState::Creating;
    infra.error = None;
    infra.cluster = server;
    infra.namespace = namespace;
    infra.image = options.image.clone().unwrap_or_else(|| app.settings.pod_image.clone());
    infra.server_url = server_url(app, options.server_url.as_deref())?;
    if let Some(uri) = &options.executor_host_uri {
        check_host(uri)?;
    }
    // Without one it is found out anew: nodes come and go.
    infra.executor_host_uri.clone_from(&options.executor_host_uri);
    infra.options = options;
    wanted(app, claim)
}

/// Refuses to make a second one elsewhere: nobody would remember the first.
pub(super) fn check_place(
    infra: &ExecutorInfra,
    server: Option<&str>,
    namespace: &str,
) -> Result<(), ApiError> {
    if !infra.made || (infra.cluster.as_deref() == server && infra.namespace == namespace) {
        return Ok(());
    }
    let id = &infra.executor_id;
    let cluster = infra.cluster.as_deref().unwrap_or("an unknown address");
    Err(ApiError::new(
        Code::InfraExists,
        format!(
            "executor `{id}` has infrastructure in namespace `{}` of the cluster at `{cluster}`, not in `{namespace}` at \
             `{}`: name that place, or remove it there first",
            infra.namespace,
            server.unwrap_or("an unknown address"),
        ),
    )
    .details(json!({"cluster": infra.cluster, "namespace": infra.namespace})))
}

/// How the cluster reaches this server.
fn server_url(app: &App, asked: Option<&str>) -> Result<String, ApiError> {
    if app.common.tokens.is_empty() {
        return Err(ApiError::new(
            Code::Forbidden,
            "without tokens this server answers requests of this machine only, so that no executor elsewhere could reach \
             it: configure `auth_tokens` and `bind`",
        ));
    }
    let url = asked.unwrap_or(&app.public_url);
    let Some(parsed) = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    else {
        let problem = "is no URL; it looks like `https://edict.example.com`";
        return Err(invalid("server_url", &format!("`{}` {problem}", crate::shorten(url))));
    };
    let host = parsed.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if asked.is_none() && here {
        let problem = format!(
            "is missing, and a cluster cannot reach this server at `{url}`: say how it does, here or with the setting \
             `public_url`"
        );
        return Err(invalid("server_url", &problem));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn wanted(app: &App, claim: &Claim) -> Result<Infra, ApiError> {
    let (infra, settings) = (&claim.infra, &app.settings);
    let options = &infra.options;
    let mark = mark(app, &infra.executor_id);
    let (folder, cache) = match options.cache.as_deref().unwrap_or("node") {
        "node" => {
            let folder = Infra::host_path(&mark);
            (Some(folder.clone()), folder)
        }
        "none" => (None, String::new()),
        claim if claim.strip_prefix("claim:").is_some_and(|name| !name.is_empty()) => {
            (None, claim.to_owned())
        }
        other => {
            let problem = format!("`{}` is none of `node`, `none`, `claim:NAME`", crate::shorten(other));
            return Err(invalid("cache", &problem));
        }
    };
    let pull_secret = options.image_pull_secret.clone().unwrap_or_else(|| settings.pod_pull_secret.clone());
    let mut env: BTreeMap<String, String> = [
        ("EDICT_BIND", "0.0.0.0".to_owned()),
        ("EDICT_EXECUTOR_PORT", PORT.to_string()),
        ("EDICT_DATA_DIR", "/data".to_owned()),
        ("EDICT_SERVER_URL", infra.server_url.clone()),
        ("EDICT_EXECUTOR_ID", infra.executor_id.clone()),
        ("EDICT_BACKEND", "kubernetes".to_owned()),
        ("EDICT_SYSTEM_ID", mark.system.clone()),
        ("EDICT_POD_IMAGE", infra.image.clone()),
        ("EDICT_POD_PULL_SECRET", pull_secret.clone()),
        ("EDICT_POD_CACHE", cache),
        ("EDICT_POD_CPU_REQUEST", settings.pod_cpu_request.clone()),
        ("EDICT_MAX_JOBS", MAX_JOBS.to_owned()),
        // What policies may do is the same there as here.
        ("EDICT_MAX_TIMEOUT_MS", settings.max_timeout_ms.to_string()),
        ("EDICT_MAX_MEMORY_MB", settings.max_memory_mb.to_string()),
        ("EDICT_MAX_PROCESSES", settings.max_processes.to_string()),
        ("EDICT_ALLOW_NETWORK", settings.allow_network.to_string()),
        ("EDICT_LOG_LEVEL", settings.log_level.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    match options.max_processes {
        Some(0) => return Err(invalid("max_processes", "must be at least 1")),
        Some(most) => drop(env.insert("EDICT_MAX_RUNS".to_owned(), most.to_string())),
        None => {}
    }
    let scope = Scope::Executor { executor_id: infra.executor_id.clone(), epoch: claim.epoch };
    let mut secret = BTreeMap::from([("EDICT_SERVER_TOKEN".to_owned(), app.scopes.mint(&scope))]);
    if let Some(index) = settings.index_url.given() {
        secret.insert("EDICT_INDEX_URL".to_owned(), index.to_owned());
    }
    // Settings that are empty are as if they were not there.
    env.retain(|_, value| !value.is_empty());
    Ok(Infra {
        mark,
        namespace: infra.namespace.clone(),
        image: infra.image.clone(),
        image_pull_secret: Some(pull_secret).filter(|name| !name.is_empty()),
        env,
        secret,
        port: PORT,
        exposure: exposure(options),
        ingress: options.ingress.clone().map(|ingress| Ingress {
            host: ingress.host,
            class: ingress.class,
            tls_secret: ingress.tls_secret,
            annotations: ingress.annotations,
        }),
        cache: folder,
        node_access: true,
        cpu_request: "100m".to_owned(),
        memory_request: "256Mi".to_owned(),
        memory_limit: options.memory_limit.clone().unwrap_or_else(|| "2Gi".to_owned()),
        command: None,
    })
}

fn exposure(options: &InfraOptions) -> Exposure {
    // An ingress reaches a service inside the cluster.
    let usual = if options.ingress.is_some() { InfraExposure::ClusterIp } else { InfraExposure::NodePort };
    match options.exposure.unwrap_or(usual) {
        InfraExposure::NodePort => Exposure::NodePort,
        InfraExposure::ClusterIp => Exposure::ClusterIp,
        InfraExposure::LoadBalancer => Exposure::LoadBalancer,
    }
}
