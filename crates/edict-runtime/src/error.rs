//! What can go wrong.

use std::time::Duration;

use crate::LogRecord;

/// A run that gave no outcome.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct RunError {
    /// What happened.
    pub fault: Fault,
    /// What the run had printed and logged by then.
    pub logs: Vec<LogRecord>,
}

impl From<Fault> for RunError {
    fn from(fault: Fault) -> Self {
        Self { fault, logs: Vec::new() }
    }
}

/// Why a run gave no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The policy raised an exception.
    #[error("the policy raised {kind}: {message}")]
    Failed {
        /// The exception's class.
        kind: String,
        /// Its message.
        message: String,
        /// The policy's own frames, outermost first: `function.py:12 in eval`.
        traceback: Vec<String>,
    },
    /// The policy cannot be imported, or has no usable class.
    #[error("the policy cannot be loaded: {kind}: {message}")]
    Load {
        /// The exception's class, or `ClassMissing`, or `Exited`.
        kind: String,
        /// What is wrong.
        message: String,
        /// The policy's own frames.
        traceback: Vec<String>,
    },
    /// A limit was exceeded.
    #[error("the run exceeded its limit of {0}")]
    Limit(Limit),
    /// The process ended without an answer.
    #[error("the policy's process {how}")]
    Crashed {
        /// `exited with code 3`, `was killed by SIGSEGV`, …
        how: String,
    },
    /// What the policy returned is not JSON.
    #[error("the result is not JSON: {place}")]
    OutputNotJson {
        /// Where and why: `$.a[3] is of type set`.
        place: String,
    },
    /// A management command for a policy without `management`.
    #[error("the policy takes no management commands: its class has no method `management`")]
    NoManagement,
    /// Too many runs are waiting.
    #[error("too many runs are waiting; retry after {} s", retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The runtime is stopping.
    #[error("the runtime is stopping")]
    Stopping,
    /// The runtime's own failure.
    #[error("the runtime failed: {0}")]
    Internal(String),
}

/// A limit, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// Wall time.
    #[error("{} ms of wall time (`timeout_ms`)", .0.as_millis())]
    Timeout(Duration),
    /// Memory, MiB.
    #[error("{0} MiB of memory (`memory_mb`)")]
    Memory(u64),
    /// CPU seconds.
    #[error("{0} s of CPU time (`cpu_seconds`)")]
    Cpu(u64),
    /// Bytes printed and logged.
    #[error("{0} bytes of output")]
    Output(usize),
    /// Bytes of the result.
    #[error("{0} bytes for a result")]
    Result(usize),
}

impl Limit {
    /// Which: `timeout`, `memory`, `cpu`, `output`, `result`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Memory(_) => "memory",
            Self::Cpu(_) => "cpu",
            Self::Output(_) => "output",
            Self::Result(_) => "result",
        }
    }
}

/// A runtime that cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its folder cannot be set up.
    #[error("cannot set up the runtime's folder: {0}")]
    Folder(std::io::Error),
    /// The launcher or the sandbox doesn't work.
    #[error("the sandbox cannot be built: {0}")]
    Sandbox(String),
}
