//! Takes a request to run a policy through its stations: compiled policy, checks, code, environment, worker, checks.

use super::failure::describe;
use super::{Compiled, Home};
use crate::error::{ApiError, Code};
use crate::settings::Settings;
use async_trait::async_trait;
use edict_client::records::{ContextOp, ExecutePolicy, Isolation, LogRecord, Manage, PolicyState};
use edict_runtime::bundle::BundleStore;
use edict_runtime::environment::{EnvironmentError, Environments};
use edict_runtime::{Host, Limits, Operation, Outcome, RunError, Runtime};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a run gave back.
pub(crate) struct Finished {
    pub(crate) data: Box<RawValue>,
    pub(crate) logs: Vec<LogRecord>,
}

/// What runs need beside the policy: made once per process.
pub(crate) struct Tools {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) bundles: BundleStore,
    pub(crate) environments: Environments,
}

/// An executor.
pub(crate) struct Runner {
    pub(crate) tools: Tools,
    home: Arc<Home>,
    caps: Limits,
}

impl Runner {
    pub(crate) fn new(tools: Tools, home: Arc<Home>, settings: &Settings) -> Self {
        let caps = Limits {
            timeout: Duration::from_millis(settings.max_timeout_ms),
            memory_mb: settings.max_memory_mb,
            processes: settings.max_processes,
            network: settings.allow_network,
            ..Limits::default()
        };
        Self { tools, home, caps }
    }

    /// Runs a policy once, statelessly. `revision` is the policy's current one, if the caller knows it.
    pub(crate) async fn execute(
        &self,
        request: ExecutePolicy,
        revision: Option<u64>,
    ) -> Result<Finished, ApiError> {
        let started = Instant::now();
        let policy = self.home.compiled(&request.policy_rule_uri, revision).await?;
        policy.check_input(&request.input_data)?;
        let operation = Operation::Eval {
            settings: policy.settings.with(request.settings.as_ref(), &policy.uri)?,
            parameters: policy.parameters.with(request.parameters.as_ref(), &policy.uri)?,
            input: request.input_data,
        };
        let outcome = self.run(&policy, operation).await;
        let result = outcome.and_then(|outcome| {
            policy.check_output(&outcome.result)?;
            Ok(Finished { data: outcome.result, logs: records(outcome.logs) })
        });
        count(&policy.uri, "eval", result.as_ref().err(), started);
        result
    }

    /// Sends a policy a management command, and keeps what it changes for later runs on this executor.
    pub(crate) async fn manage(&self, request: Manage, revision: Option<u64>) -> Result<Finished, ApiError> {
        let started = Instant::now();
        let policy = self.home.compiled(&request.policy_rule_uri, revision).await?;
        let data = Value::Object(request.data);
        policy.check_command(&request.action, &data)?;
        let operation = Operation::Management {
            settings: policy.settings.with(None, &policy.uri)?,
            parameters: policy.parameters.with(None, &policy.uri)?,
            action: request.action,
            data: serde_json::value::to_raw_value(&data).map_err(ApiError::internal)?,
        };
        let result = match self.run(&policy, operation).await {
            Ok(outcome) => self.keep(&policy, outcome).await,
            Err(error) => Err(error),
        };
        count(&policy.uri, "management", result.as_ref().err(), started);
        result
    }

    async fn keep(&self, policy: &Compiled, outcome: Outcome) -> Result<Finished, ApiError> {
        let mut change = PolicyState::default();
        if let Some(settings) = &outcome.settings {
            change.settings = policy.settings.changes(settings, &policy.uri)?;
        }
        if let Some(parameters) = &outcome.parameters {
            change.parameters = policy.parameters.changes(parameters, &policy.uri)?;
        }
        if change != PolicyState::default() {
            self.home.save_state(&policy.uri, change).await?;
        }
        Ok(Finished { data: outcome.result, logs: records(outcome.logs) })
    }

    async fn run(&self, policy: &Compiled, operation: Operation) -> Result<Outcome, ApiError> {
        let prepared = policy.prepared.get_or_try_init(|| self.prepare(policy)).await?;
        self.tools.runtime.run(prepared, operation).await.map_err(|error| {
            let logs = records(error.logs().to_vec());
            describe(&policy.uri, error, logs)
        })
    }

    /// Unpacks the code and installs its requirements.
    async fn prepare(&self, policy: &Compiled) -> Result<Arc<edict_runtime::Policy>, ApiError> {
        let digest = match &policy.digest {
            Some(digest) => digest.clone(),
            None => self.home.pin(&policy.uri).await?,
        };
        let code = self
            .tools
            .bundles
            .ensure(&digest, self.home.bundle(&policy.uri, &digest))
            .await
            .map_err(|error| error.into_fetch().unwrap_or_else(ApiError::internal))?;
        let environment = match &code.requirements {
            Some(requirements) if !requirements.is_empty() => {
                Some(self.tools.environments.ensure(requirements).await.map_err(|error| failed(&policy.uri, &error))?)
            }
            _ => None,
        };
        Ok(Arc::new(edict_runtime::Policy {
            uri: policy.uri.clone(),
            code,
            digest,
            environment,
            limits: self.limits(policy),
            isolation: match policy.limits.isolation.unwrap_or_default() {
                Isolation::Process => edict_runtime::Isolation::Process,
                Isolation::Instance => edict_runtime::Isolation::Instance,
            },
        }))
    }

    /// What the policy asks for, as far as this executor allows it.
    fn limits(&self, policy: &Compiled) -> Limits {
        let (asked, default) = (&policy.limits, Limits::default());
        Limits {
            timeout: asked.timeout_ms.map_or(default.timeout, Duration::from_millis).min(self.caps.timeout),
            memory_mb: asked.memory_mb.unwrap_or(default.memory_mb).min(self.caps.memory_mb),
            cpu_seconds: asked.cpu_seconds,
            processes: asked.processes.unwrap_or(default.processes).min(self.caps.processes),
            network: asked.network.unwrap_or(default.network) && self.caps.network,
        }
    }
}

fn failed(uri: &str, error: &EnvironmentError) -> ApiError {
    ApiError::new(Code::EnvironmentFailed, format!("the requirements of policy `{uri}` cannot be installed: {error}"))
        .details(serde_json::json!({"output": error.output()}))
}

fn records(logs: Vec<edict_runtime::LogRecord>) -> Vec<LogRecord> {
    logs.into_iter()
        .map(|log| LogRecord { time: log.time, level: log.level, source: log.source, message: log.message })
        .collect()
}

fn count(uri: &str, operation: &'static str, error: Option<&ApiError>, started: Instant) {
    let result = error.map_or("ok", |error| error.code().as_str());
    metrics::counter!("edict_policy_runs_total", "policy" => uri.to_owned(), "operation" => operation, "result" => result)
        .increment(1);
    metrics::histogram!("edict_policy_run_duration_seconds", "policy" => uri.to_owned(), "operation" => operation)
        .record(started.elapsed());
}

/// The runtime's way back to us, for what policies ask for while they run.
pub(crate) struct Bridge(pub(crate) Arc<std::sync::OnceLock<Arc<Home>>>);

#[async_trait]
impl Host for Bridge {
    async fn context(&self, policy_uri: &str, operation: edict_runtime::ContextOp) -> Result<Value, String> {
        let home = self.0.get().ok_or("the context is not available yet")?;
        let operation: ContextOp = serde_json::to_value(operation)
            .and_then(serde_json::from_value)
            .map_err(|error| error.to_string())?;
        home.context(policy_uri, operation).await.map_err(|error| error.message().to_owned())
    }

    fn log(&self, policy_uri: &str, record: &edict_runtime::LogRecord) {
        let (source, message) = (record.source.as_str(), record.message.as_str());
        match record.level.as_str() {
            "debug" => tracing::debug!(target: "edict::policy", policy = policy_uri, source, "{message}"),
            "error" | "critical" => tracing::error!(target: "edict::policy", policy = policy_uri, source, "{message}"),
            "warning" => tracing::warn!(target: "edict::policy", policy = policy_uri, source, "{message}"),
            _ => tracing::info!(target: "edict::policy", policy = policy_uri, source, "{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_speaks_the_clients_context_language() {
        let theirs = edict_runtime::ContextOp::Keys;
        let ours: ContextOp = serde_json::from_value(serde_json::to_value(theirs).unwrap()).unwrap();
        assert_eq!(ours, ContextOp::Keys);
    }

    #[test]
    fn busy_is_429() {
        let error = describe("a:1-b", RunError::Busy { retry_after: Duration::from_secs(1) }, Vec::new());
        assert_eq!(error.code(), Code::Overloaded);
    }
}
