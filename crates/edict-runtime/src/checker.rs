//! Looks at a policy's source without running it: parsed by Python itself, in a sandbox of its own, since
//! parsing hostile text can take all memory, or crash the parser.

use std::time::Duration;

use serde::Deserialize;

use crate::{Fault, Limits};

/// What a policy's class offers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClassInfo {
    /// It has a method `management` of its own.
    pub has_management: bool,
    /// It has base classes, or the name is imported or assigned: more methods than its own are possible.
    pub inherits: bool,
}

/// Why a source is not a policy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceFault {
    /// It is not Python.
    #[error("function.py{}: {message}", line.map_or_else(String::new, |line| format!(" line {line}")))]
    Syntax {
        /// What is wrong.
        message: String,
        /// The line, from 1.
        line: Option<u32>,
        /// The column, from 1.
        column: Option<u32>,
        /// The line's text.
        text: Option<String>,
    },
    /// No class `AIOSv1PolicyRule`.
    #[error("function.py defines no class `AIOSv1PolicyRule`")]
    ClassMissing,
    /// The class has no `eval`.
    #[error("class `AIOSv1PolicyRule` in function.py has no method `eval`")]
    EvalMissing,
    /// It could not be checked.
    #[error("function.py could not be checked: {0}")]
    Unchecked(Fault),
}

impl SourceFault {
    /// The stable code that goes into replies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax_error",
            Self::ClassMissing => "class_missing",
            Self::EvalMissing => "eval_missing",
            Self::Unchecked(_) => "unchecked",
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Verdict {
    Fault {
        fault: String,
        #[serde(default)]
        message: String,
        line: Option<u32>,
        column: Option<u32>,
        text: Option<String>,
    },
    Good(ClassInfo),
}

pub(crate) fn limits() -> Limits {
    Limits {
        timeout: Duration::from_secs(10),
        memory_mb: 512,
        cpu_seconds: None,
        processes: 1,
        network: false,
    }
}

/// Read the worker's verdict.
pub(crate) fn verdict(text: &str) -> Result<ClassInfo, SourceFault> {
    match serde_json::from_str(text) {
        Ok(Verdict::Good(info)) => Ok(info),
        Ok(Verdict::Fault { fault, message, line, column, text }) => Err(match fault.as_str() {
            "class_missing" => SourceFault::ClassMissing,
            "eval_missing" => SourceFault::EvalMissing,
            _ => SourceFault::Syntax { message, line, column, text },
        }),
        Err(error) => Err(SourceFault::Unchecked(Fault::Internal(error.to_string()))),
    }
}
