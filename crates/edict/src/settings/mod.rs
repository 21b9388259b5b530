//! Settings: command line, environment, `.env`, `edict.toml`, defaults, in this order.
//!
//! `edict.default.toml` is the single list: it gives each setting its name, type, default and help text, and from it
//! come the command-line flags, the environment names, and what `edict config` prints.

mod secret;
mod sources;

pub(crate) use secret::Secret;
pub(crate) use sources::{SettingsArgs, variables};

use crate::auth::Tokens;
use edict_client::records::Labels;
use serde::{Deserialize, Deserializer, de};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Effective settings; `edict.default.toml` says what each means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) bind: IpAddr,
    pub(crate) system_port: u16,
    pub(crate) engine_port: u16,
    pub(crate) actions_port: u16,
    pub(crate) data_dir: PathBuf,
    pub(crate) database_url: Secret,
    pub(crate) database_connections: u32,
    pub(crate) auth_tokens: Tokens,
    pub(crate) public_url: String,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) max_body_mb: usize,
    pub(crate) max_upload_mb: usize,
    drain_seconds: u64,
    shutdown_grace_seconds: u64,
    executor_patience_seconds: u64,
    pub(crate) assets_url: String,
    pub(crate) s3_endpoint: String,
    pub(crate) s3_region: String,
    pub(crate) s3_access_key_id: String,
    pub(crate) s3_secret_access_key: Secret,
    pub(crate) max_bundle_mb: u64,
    pub(crate) python: PathBuf,
    pub(crate) uv: PathBuf,
    pub(crate) index_url: Secret,
    pub(crate) max_runs: usize,
    pub(crate) run_queue: usize,
    pub(crate) max_jobs: usize,
    pub(crate) job_retention_days: u32,
    pub(crate) max_timeout_ms: u64,
    pub(crate) max_memory_mb: u64,
    pub(crate) max_processes: u32,
    pub(crate) allow_network: bool,
    pub(crate) idle_seconds: u64,
    pub(crate) max_warm: usize,
    pub(crate) max_replicas: u32,
    pub(crate) function_queue: usize,
    pub(crate) autoscale_seconds: u64,
    pub(crate) sandbox: Sandbox,
    #[serde(deserialize_with = "labels")]
    pub(crate) node_labels: Labels,
    pub(crate) default_allocator: String,
    pub(crate) graph_run_retention_days: u64,
    pub(crate) executor_id: String,
    pub(crate) executor_port: u16,
    pub(crate) executor_url: String,
    pub(crate) backend: Backend,
    pub(crate) pod_namespace: String,
    pub(crate) pod_image: String,
    pub(crate) pod_pull_secret: String,
    pub(crate) pod_cache: String,
    pub(crate) pod_cpu_request: String,
    pub(crate) system_id: String,
    pub(crate) function_port: u16,
    pub(crate) call_token: Secret,
    pub(crate) server_url: String,
    pub(crate) server_token: Secret,
    pub(crate) decisions_dir: PathBuf,
    pub(crate) decisions_starter: bool,
    pub(crate) decision_timeout_ms: u64,
    pub(crate) decision_log_retention_days: u64,
    pub(crate) decision_log_sync_ms: u64,
    pub(crate) decision_log_spool_mb: u64,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) allowed_namespaces: Vec<String>,
    pub(crate) max_scale: u32,
    pub(crate) cluster_timeout_seconds: u64,
    pub(crate) jwt_secret: Secret,
    require_action_signature: bool,
    pub(crate) require_fresh_signature: bool,
    pub(crate) signature_max_age_seconds: u64,
    pub(crate) policy_engine_url: String,
    pub(crate) policy_engine_token: Secret,
    pub(crate) policy_engine_timeout_ms: u64,
    pub(crate) rate_limit_restart_ttl: u64,
    pub(crate) rate_limit_restart_max: u64,
    pub(crate) rate_limit_scale_ttl: u64,
    pub(crate) rate_limit_scale_max: u64,
    pub(crate) rate_limit_rollback_ttl: u64,
    pub(crate) rate_limit_rollback_max: u64,
    pub(crate) audit_retention_days: u64,
    pub(crate) notify_url: Secret,
    pub(crate) notify_repeats: u64,
    pub(crate) notify_repeat_minutes: u64,
}

/// Reads `["zone=a", "gpu=yes"]`.
fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    let label = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(de::Error::custom(format!("`{text}` is no label; write `name=value`"))),
    };
    list.iter().map(label).collect()
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What to do when the kernel lacks a layer of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sandbox {
    Auto,
    Strict,
}

/// What an executor runs jobs and functions with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    Process,
    Kubernetes,
}

impl Settings {
    /// Time that a server that was told to stop goes on serving.
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// Time that running work gets to finish after SIGTERM.
    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }

    /// Time for which requests wait for an executor that was heard of, and is away.
    pub(crate) fn executor_patience(&self) -> Duration {
        Duration::from_secs(self.executor_patience_seconds)
    }

    /// How large code archives may be.
    pub(crate) fn bundle_limits(&self) -> edict_runtime::bundle::Limits {
        edict_runtime::bundle::Limits { packed: self.max_bundle_mb << 20, ..Default::default() }
    }

    /// Refuses to open a server to the network that would let everyone in.
    ///
    /// # Errors
    /// When `bind` is not loopback and there are no tokens.
    pub(crate) fn check_protection(&self) -> Result<(), SettingsError> {
        if !self.bind.is_loopback() && self.auth_tokens.is_empty() {
            return Err(SettingsError::Unprotected { bind: self.bind });
        }
        Ok(())
    }

    /// The data folder, with the platform's user data folder standing in for an empty setting.
    fn with_data_dir(mut self) -> Result<Self, SettingsError> {
        if self.data_dir.as_os_str().is_empty() {
            let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
            self.data_dir = base.ok_or(SettingsError::NoDataDir)?.join("edict");
        }
        // Workers have a folder of their own to work in, where a relative path would lead elsewhere.
        let unusable = |error: std::io::Error| SettingsError::Invalid {
            name: "data_dir".to_owned(),
            problem: error.to_string(),
        };
        self.data_dir = std::path::absolute(&self.data_dir).map_err(unusable)?;
        Ok(self)
    }

    /// Settings that contradict each other are refused at the start, not found out at night.
    fn check(self) -> Result<Self, SettingsError> {
        let invalid = |name: &'static str, problem: &str| {
            Err(SettingsError::Invalid { name: name.to_owned(), problem: problem.to_owned() })
        };
        let url = self.database_url.expose();
        if !url.is_empty() && !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return invalid(
                "database_url",
                "must start with `postgres://`; leave it empty for the embedded database",
            );
        }
        if !self.assets_url.is_empty() && !self.assets_url.starts_with("s3://") {
            return invalid(
                "assets_url",
                "must be `s3://bucket` or `s3://bucket/prefix`; leave it empty for the data folder",
            );
        }
        if self.database_connections < 2 {
            return invalid("database_connections", "must be at least 2");
        }
        if self.max_runs == 0 {
            return invalid("max_runs", "must be at least 1");
        }
        if self.autoscale_seconds == 0 {
            return invalid("autoscale_seconds", "must be at least 1");
        }
        if self.max_jobs == 0 {
            return invalid("max_jobs", "must be at least 1");
        }
        if self.decision_timeout_ms == 0 {
            return invalid("decision_timeout_ms", "must be at least 1");
        }
        if self.decision_log_spool_mb == 0 {
            return invalid("decision_log_spool_mb", "must be at least 1");
        }
        if self.cluster_timeout_seconds == 0 {
            return invalid("cluster_timeout_seconds", "must be at least 1");
        }
        let unsigned = self.jwt_secret.given().is_none();
        if unsigned && (self.require_action_signature || self.require_fresh_signature) {
            let name = match self.require_action_signature {
                true => "require_action_signature",
                false => "require_fresh_signature",
            };
            return invalid(name, "needs `jwt_secret` (JWT_SECRET), the key that requests are signed with");
        }
        for (name, url) in
            [("policy_engine_url", self.policy_engine_url.as_str()), ("notify_url", self.notify_url.expose())]
        {
            if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
                return invalid(name, "must start with `http://` or `https://`");
            }
        }
        Ok(self)
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the file `{path}` that EDICT_CONFIG names cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("`{path}` is not valid: {problem}")]
    Malformed { path: String, problem: String },
    #[error("unknown setting `{name}` in {place}{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown { name: String, place: String, nearest: Option<String> },
    #[error("setting `{name}`: {problem}")]
    Invalid { name: String, problem: String },
    #[error(
        "refusing to listen on `{bind}` without protection: set `auth_tokens` (EDICT_AUTH_TOKENS=admin:<token>,…), or bind to 127.0.0.1"
    )]
    Unprotected { bind: IpAddr },
    #[error("there is no home folder to keep data in: set `data_dir` (EDICT_DATA_DIR)")]
    NoDataDir,
}
