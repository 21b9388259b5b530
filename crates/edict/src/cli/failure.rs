//! Why a verb did not succeed, what its user reads, and with which code the program ends.

use super::output::printable;
use edict_client::records::RunFault;
use edict_client::{ApiError, Error};
use serde_json::Value;
use std::io::{self, Write};
use std::process::ExitCode;

/// How the program ends; the numbers are listed in `edict --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    Unreachable = 5,
    NotAllowed = 6,
    TimedOut = 7,
    Denied = 8,
}

impl Exit {
    /// What an error reply's HTTP status means for a script.
    pub(crate) const fn of(status: u16) -> Self {
        match status {
            401 | 403 => Self::NotAllowed,
            404 => Self::NotFound,
            400 | 409 | 412 | 413 | 415 | 422 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// A failure as its user sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// Lines below the message, each with what it is: `code`, `request`, `hint` …
    pub(crate) notes: Vec<(&'static str, String)>,
    /// Whoever read our output has closed it (`edict policy list | head -1`): not an error, nothing to say.
    pub(crate) quiet: bool,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), notes: Vec::new(), quiet: false }
    }

    /// Something went wrong here, not at the server.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The arguments cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What was waited for has not happened; it may still.
    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Self::new(Exit::TimedOut, message)
    }

    /// An action that was refused or failed, in the server's words.
    pub(crate) fn refused(exit: Exit, message: impl Into<String>, details: &Value) -> Self {
        Self::new(exit, message).details(details)
    }

    /// The policy engine said no, which was printed already.
    pub(crate) fn denied() -> Self {
        Self::new(Exit::Denied, "")
    }

    /// What a job or a function failed with, told as if it had been the reply to a call.
    pub(crate) fn fault(exit: Exit, fault: &RunFault) -> Self {
        Self::new(exit, &fault.message).details(&fault.details).note("code", &fault.code)
    }

    fn details(self, details: &Value) -> Self {
        if details.is_null() { self } else { self.note("details", describe(details)) }
    }

    pub(crate) fn note(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.notes.push((name, text.into()));
        self
    }

    /// Prints the failure and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if self.quiet {
            return ExitCode::SUCCESS;
        }
        if !self.message.is_empty() {
            // When stderr is closed too, the exit code still tells.
            drop(io::stderr().lock().write_all(self.text().as_bytes()));
        }
        ExitCode::from(self.exit as u8)
    }

    /// The message and its notes, indented, a line each.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", printable(&self.message));
        for (name, note) in &self.notes {
            let note = printable(note);
            let separator = if note.contains('\n') { "\n    " } else { " " };
            text.push_str(&format!("  {name}:{separator}{}\n", note.trim_end().replace('\n', "\n    ")));
        }
        text
    }
}

/// What the server's own parts refuse when a verb uses them without a server.
impl From<crate::error::ApiError> for Failure {
    fn from(error: crate::error::ApiError) -> Self {
        Self::from_api(&ApiError {
            status: error.code().status().as_u16(),
            code: error.code().as_str().to_owned(),
            message: error.message().to_owned(),
            details: error.into_details(),
            request_id: None,
            retry_after: None,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(refusal) => Self::from_api(refusal),
            Error::Unreachable { .. } => Self::new(Exit::Unreachable, error.to_string())
                .note("hint", "start a server with `edict serve`, or name another with --url or EDICT_URL (for decisions --engine-url or EDICT_ENGINE_URL)"),
            Error::Invalid(_) => Self::usage(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl Failure {
    fn from_api(refusal: &ApiError) -> Self {
        let exit = Exit::of(refusal.status);
        let mut failure =
            Self::new(exit, &refusal.message).details(&refusal.details).note("code", &refusal.code);
        if let Some(id) = &refusal.request_id {
            failure = failure.note("request", id);
        }
        if let Some(wait) = refusal.retry_after {
            failure = failure.note("hint", format!("try again in {} s", wait.as_secs()));
        }
        if exit == Exit::NotAllowed {
            failure = failure.note("hint", "set EDICT_TOKEN to a token whose role may do this");
        }
        failure
    }
}

/// Details for people: a line per entry, text as it is.
fn describe(details: &Value) -> String {
    let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let lines: Vec<String> = match details {
        Value::Array(entries) => entries.iter().map(one).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| format!("{key}: {}", one(value))).collect()
        }
        other => vec![one(other)],
    };
    lines.join("\n")
}

impl From<io::Error> for Failure {
    /// For writing to stdout; errors of files say which file.
    fn from(error: io::Error) -> Self {
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        Self { quiet, ..Self::failed(format!("cannot write the output: {error}")) }
    }
}
