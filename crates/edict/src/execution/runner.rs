//! Takes a request to run a policy through its stations: compiled policy, checks, code, environment, worker, checks.

use super::failure::describe;
use super::{Compiled, Home};
use crate::error::{ApiError, Code};
use crate::settings::Settings;
use async_trait::async_trait;
use bytes::Bytes;
use edict_client::records::{
    ContextOp, ExecutePolicy, ExecutionLimits, Isolation, Load, LogRecord, Manage, PolicyState,
};
use edict_runtime::bundle::{BundleStore, StoreError};
use edict_runtime::environment::{EnvironmentError, Environments};
use edict_runtime::{Host, Limits, LogLevel, Operation, Outcome, RunOptions, Runtime};
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
    pub(crate) home: Arc<Home>,
    max_runs: usize,
}

impl Runner {
    pub(crate) fn new(tools: Tools, home: Arc<Home>, settings: &Settings) -> Self {
        Self { tools, home, max_runs: settings.max_runs }
    }

    /// Whether a further run would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.tools.runtime.stats().running >= self.max_runs
    }

    /// How much of its room is taken.
    pub(crate) fn load(&self) -> Load {
        let stats = self.tools.runtime.stats();
        Load {
            max_runs: self.max_runs as u64,
            runs_active: stats.running as u64,
            runs_waiting: stats.waiting as u64,
        }
    }

    /// Shows in the metrics what the executor is doing.
    pub(crate) fn gauge(&self) {
        let stats = self.tools.runtime.stats();
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of processes are far from where floats lose digits"
        )]
        let set = |name: &'static str, value: usize| metrics::gauge!(name).set(value as f64);
        set("edict_executor_warm_policies", stats.templates);
        set("edict_executor_processes", stats.processes);
        set("edict_executor_runs_active", stats.running);
        set("edict_executor_runs_queued", stats.waiting);
    }

    /// Runs a policy once, statelessly. `edition` is the policy's current one, if the caller knows it.
    pub(crate) async fn execute(
        &self,
        request: ExecutePolicy,
        edition: Option<&str>,
    ) -> Result<Finished, ApiError> {
        self.evaluate(request, edition, RunOptions::default()).await
    }

    /// Runs a policy for a job: in a process of its own, within the job's own wall time if it has one. `log` is shown
    /// each record at the moment that it is made.
    pub(crate) async fn attempt(
        &self,
        request: ExecutePolicy,
        edition: Option<&str>,
        timeout: Option<Duration>,
        log: &(dyn Fn(LogRecord) + Sync),
    ) -> Result<Box<RawValue>, ApiError> {
        let show = |record: &edict_runtime::LogRecord| log(log_record(record.clone()));
        let options = RunOptions { timeout, own_process: true, logs: Some(&show) };
        Ok(self.evaluate(request, edition, options).await?.data)
    }

    async fn evaluate(
        &self,
        request: ExecutePolicy,
        edition: Option<&str>,
        options: RunOptions<'_>,
    ) -> Result<Finished, ApiError> {
        let started = Instant::now();
        check_depth("field `input_data`", request.input_data.get())?;
        let policy = self.home.compiled(&request.policy_rule_uri, edition).await?;
        policy.check_input(&request.input_data)?;
        let operation = Operation::Eval {
            settings: policy.settings.with(request.settings.as_ref(), &policy.uri)?,
            parameters: policy.parameters.with(request.parameters.as_ref(), &policy.uri)?,
            input: request.input_data,
        };
        let outcome = self.run(&policy, operation, options).await;
        let result = outcome.and_then(|outcome| {
            policy.check_output(&outcome.result)?;
            Ok(Finished { data: outcome.result, logs: records(outcome.logs) })
        });
        count(&policy.uri, "eval", result.as_ref().err(), started);
        result
    }

    /// Sends a policy a management command, and keeps what it changes for later runs on this executor.
    pub(crate) async fn manage(&self, request: Manage, edition: Option<&str>) -> Result<Finished, ApiError> {
        let started = Instant::now();
        let policy = self.home.compiled(&request.policy_rule_uri, edition).await?;
        let data = Value::Object(request.data);
        policy.check_command(&request.action, &data)?;
        let operation = Operation::Management {
            settings: policy.settings.with(None, &policy.uri)?,
            parameters: policy.parameters.with(None, &policy.uri)?,
            action: request.action,
            data: serde_json::value::to_raw_value(&data).map_err(ApiError::internal)?,
        };
        let result = match self.run(&policy, operation, RunOptions::default()).await {
            Ok(outcome) => self.keep(&policy, outcome).await,
            Err(error) => Err(error),
        };
        count(&policy.uri, "management", result.as_ref().err(), started);
        result
    }

    async fn keep(&self, policy: &Compiled, outcome: Outcome) -> Result<Finished, ApiError> {
        let mut change = PolicyState::default();
        if let Some(settings) = &outcome.settings {
            (change.settings, change.removed_settings) = policy.settings.changes(settings, &policy.uri)?;
        }
        if let Some(parameters) = &outcome.parameters {
            (change.parameters, change.removed_parameters) =
                policy.parameters.changes(parameters, &policy.uri)?;
        }
        if change != PolicyState::default() {
            self.home.save_state(&policy.uri, change).await?;
        }
        Ok(Finished { data: outcome.result, logs: records(outcome.logs) })
    }

    async fn run(
        &self,
        policy: &Compiled,
        operation: Operation,
        options: RunOptions<'_>,
    ) -> Result<Outcome, ApiError> {
        let prepared = policy.prepared.get_or_try_init(|| self.prepare(policy)).await?;
        let outcome = self.tools.runtime.run_with(prepared, operation, options).await;
        outcome.map_err(|error| describe(&policy.uri, error))
    }

    /// Unpacks the code and installs its requirements.
    async fn prepare(&self, policy: &Compiled) -> Result<Arc<edict_runtime::Policy>, ApiError> {
        let digest = match &policy.digest {
            Some(digest) => digest.clone(),
            None => self.home.pin(&policy.uri).await?,
        };
        self.tools.prepare(policy, &digest, self.home.bundle(&policy.uri, &digest)).await
    }
}

impl Tools {
    /// Unpacks the code with this digest, which `fetched` brings if it is not here yet, and installs its requirements.
    pub(crate) async fn prepare(
        &self,
        policy: &Compiled,
        digest: &str,
        fetched: impl Future<Output = Result<Bytes, ApiError>>,
    ) -> Result<Arc<edict_runtime::Policy>, ApiError> {
        let code = self.bundles.ensure(digest, fetched).await.map_err(|error| not_stored(&error))?;
        let environment = match &code.requirements {
            Some(requirements) if !requirements.is_empty() => Some(
                self.environments.ensure(requirements).await.map_err(|error| failed(&policy.uri, &error))?,
            ),
            _ => None,
        };
        Ok(Arc::new(edict_runtime::Policy {
            uri: policy.uri.clone(),
            code,
            digest: digest.to_owned(),
            environment,
            limits: limits(&policy.limits),
            isolation: match policy.limits.isolation.unwrap_or_default() {
                Isolation::Process => edict_runtime::Isolation::Process,
                Isolation::Instance => edict_runtime::Isolation::Instance,
            },
        }))
    }
}

/// Inputs pass through as text, which hides how deep they are; Python's reader would end in an error of its own.
pub(crate) fn check_depth(what: &str, input: &str) -> Result<(), ApiError> {
    /// As deep as other bodies may be.
    const DEEPEST: usize = 128;
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in input.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            let problem = format!("{what}: nested more than {DEEPEST} levels deep");
            return Err(ApiError::new(Code::InvalidField, problem));
        }
    }
    Ok(())
}

/// What the policy asks for; the runtime's own caps apply on top.
fn limits(asked: &ExecutionLimits) -> Limits {
    let default = Limits::default();
    Limits {
        timeout: asked.timeout_ms.map_or(default.timeout, Duration::from_millis),
        memory_mb: asked.memory_mb.unwrap_or(default.memory_mb),
        cpu_seconds: asked.cpu_seconds.or(default.cpu_seconds),
        processes: asked.processes.unwrap_or(default.processes),
        network: asked.network.unwrap_or(default.network),
    }
}

/// The error for code that could not be unpacked: the registry's own, if it is one.
fn not_stored(error: &StoreError) -> ApiError {
    match error {
        StoreError::Fetch(cause) => {
            cause.downcast_ref::<ApiError>().cloned().unwrap_or_else(|| ApiError::internal(cause))
        }
        other => ApiError::internal(other),
    }
}

fn failed(uri: &str, error: &EnvironmentError) -> ApiError {
    ApiError::new(Code::EnvironmentFailed, format!("policy `{uri}`: {error}"))
        .details(serde_json::json!({"reason": error.code()}))
}

/// Log records as the API shows them.
pub(super) fn records(logs: Vec<edict_runtime::LogRecord>) -> Vec<LogRecord> {
    logs.into_iter().map(log_record).collect()
}

/// A log record as the API shows it.
pub(crate) fn log_record(log: edict_runtime::LogRecord) -> LogRecord {
    LogRecord {
        time: crate::timestamp(log.time),
        level: level(log.level).to_owned(),
        source: log.source,
        message: log.message,
    }
}

const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    }
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
        match record.level {
            LogLevel::Debug => {
                tracing::debug!(target: "edict::policy", policy = policy_uri, source, "{message}")
            }
            LogLevel::Error => {
                tracing::error!(target: "edict::policy", policy = policy_uri, source, "{message}")
            }
            LogLevel::Warning => {
                tracing::warn!(target: "edict::policy", policy = policy_uri, source, "{message}")
            }
            LogLevel::Info => {
                tracing::info!(target: "edict::policy", policy = policy_uri, source, "{message}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edict_runtime::Fault;

    #[test]
    fn the_bridge_speaks_the_clients_context_language() {
        let theirs = edict_runtime::ContextOp::Keys;
        let ours: ContextOp = serde_json::from_value(serde_json::to_value(theirs).unwrap()).unwrap();
        assert_eq!(ours, ContextOp::Keys);
    }

    #[test]
    fn only_real_depth_counts() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_depth("it", &nested(128)).is_ok());
        assert_eq!(check_depth("it", &nested(129)).unwrap_err().code(), Code::InvalidField);
        assert!(check_depth("it", &format!("[{}]", vec!["{}"; 1000].join(","))).is_ok());
        assert!(check_depth("it", &format!("\"\\\"{}\"", "[".repeat(1000))).is_ok());
    }

    #[test]
    fn busy_is_429() {
        let error = describe("a:1-b", Fault::Busy { retry_after: Duration::from_secs(1) }.into());
        assert_eq!(error.code(), Code::Overloaded);
    }
}
