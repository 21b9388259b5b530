//! What is run, under which limits, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::LogRecord;
use crate::bundle::CodeDir;
use crate::environment::Environment;

/// Limits of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Wall time, from the start of the run (waiting for a free place doesn't count). Default 30 s.
    pub timeout: Duration,
    /// Memory of each process, on top of the interpreter's own, in MiB. Default 512.
    pub memory_mb: u64,
    /// CPU time of each process, in seconds. Default: no limit but the wall time.
    pub cpu_seconds: Option<u64>,
    /// Processes and threads at the same time, the run itself included. Default 32.
    pub processes: u32,
    /// Whether it may use the network. Default true.
    pub network: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            memory_mb: 512,
            cpu_seconds: None,
            processes: 32,
            network: true,
        }
    }
}

impl Limits {
    /// These limits, none of them above `caps`.
    #[must_use]
    pub fn within(&self, caps: &Self) -> Self {
        Self {
            timeout: self.timeout.min(caps.timeout),
            memory_mb: self.memory_mb.min(caps.memory_mb),
            cpu_seconds: match (self.cpu_seconds, caps.cpu_seconds) {
                (Some(own), Some(cap)) => Some(own.min(cap)),
                (own, cap) => own.or(cap),
            },
            processes: self.processes.min(caps.processes),
            network: self.network && caps.network,
        }
    }
}

impl Limits {
    /// These limits as a template has them: it serves runs of any wall time, which the host watches.
    pub(crate) fn without_timeout(&self) -> Self {
        Self { timeout: Duration::ZERO, ..self.clone() }
    }
}

/// What separates one run from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// A process of its own per run.
    #[default]
    Process,
    /// A fresh module and instance per run, in a warm process that only this policy uses.
    Instance,
}

/// A policy, ready to run.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its URI: `rule_id` for the policy, and the name under which context and logs are kept.
    pub uri: String,
    /// Its code.
    pub code: Arc<CodeDir>,
    /// What identifies the code's content.
    pub digest: String,
    /// The environment with its requirements, when it has any.
    pub environment: Option<Arc<Environment>>,
    /// Limits of each run; the runtime's caps apply on top.
    pub limits: Limits,
    /// What separates its runs.
    pub isolation: Isolation,
}

/// What a policy is asked to do. All JSON is passed on as the text that it is.
#[derive(Debug)]
pub enum Operation {
    /// `eval(parameters, input, context)`.
    Eval {
        /// `self.settings`.
        settings: Box<RawValue>,
        /// `self.parameters`, and the first argument.
        parameters: Box<RawValue>,
        /// The input.
        input: Box<RawValue>,
    },
    /// `management(action, data)`.
    Management {
        /// `self.settings`.
        settings: Box<RawValue>,
        /// `self.parameters`.
        parameters: Box<RawValue>,
        /// The command's name.
        action: String,
        /// Its data.
        data: Box<RawValue>,
    },
}

/// Takes log records at the moment that they are made. Must not block.
pub type LogSink<'a> = &'a (dyn Fn(&LogRecord) + Sync);

/// What is special about one run.
#[derive(Clone, Copy, Default)]
pub struct RunOptions<'a> {
    /// Its wall time, instead of the policy's own; the runtime's cap applies.
    pub timeout: Option<Duration>,
    /// Give it a process of its own, whatever the policy's isolation is.
    pub own_process: bool,
    /// Shown each of the run's log records, as the host is.
    pub logs: Option<LogSink<'a>>,
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// What the policy returned, any JSON value.
    pub result: Box<RawValue>,
    /// `self.settings` after `management`, when it changed them.
    pub settings: Option<Box<RawValue>>,
    /// `self.parameters` after `management`, when it changed them.
    pub parameters: Option<Box<RawValue>>,
    /// What the run printed and logged.
    pub logs: Vec<LogRecord>,
    /// How long the run took, without waiting for its turn.
    pub duration: Duration,
}
