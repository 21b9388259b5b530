//! What a run prints and logs, as records.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How important a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For finding faults.
    Debug,
    /// Worth knowing; also what is printed to stdout.
    Info,
    /// Something may be wrong; also what is printed to stderr.
    Warning,
    /// Something is wrong.
    Error,
}

/// A line that a policy printed or logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// How important.
    pub level: LogLevel,
    /// `stdout`, `stderr`, or the logger's name.
    pub source: String,
    /// The text.
    pub message: String,
}

/// A record as the worker sends it.
#[derive(Deserialize)]
pub(crate) struct WireRecord {
    time: f64,
    level: String,
    logger: String,
    message: String,
}

impl From<WireRecord> for LogRecord {
    fn from(wire: WireRecord) -> Self {
        let level = match wire.level.as_str() {
            "DEBUG" | "NOTSET" => LogLevel::Debug,
            "WARNING" => LogLevel::Warning,
            "ERROR" | "CRITICAL" => LogLevel::Error,
            _ => LogLevel::Info,
        };
        let time = OffsetDateTime::from_unix_timestamp_nanos((wire.time * 1e9) as i128);
        Self {
            time: time.unwrap_or_else(|_| OffsetDateTime::now_utc()),
            level,
            source: wire.logger,
            message: wire.message,
        }
    }
}

/// Which of a process's output streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A run's records so far. At most `keep` bytes of messages are kept.
pub(crate) struct Logs {
    records: Vec<LogRecord>,
    keep: usize,
    kept: usize,
    seen: usize,
    partial: [Vec<u8>; 2],
}

/// Longest line; what is longer is cut into several records.
const LINE: usize = 16 << 10;

impl Logs {
    pub(crate) fn new(keep: usize) -> Self {
        Self { records: Vec::new(), keep, kept: 0, seen: 0, partial: [Vec::new(), Vec::new()] }
    }

    /// Bytes seen, whether kept or not.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Take a piece of a stream; each line that it completes becomes a record and is shown to `each`.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8], each: &dyn Fn(&LogRecord)) {
        self.seen += bytes.len();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let partial = self.partial_of(stream);
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || partial.len() >= LINE {
                self.end_line(stream, each);
            }
        }
    }

    /// Take a record that the worker made.
    pub(crate) fn record(&mut self, record: LogRecord, size: usize, each: &dyn Fn(&LogRecord)) {
        self.seen += size;
        self.keep(record, each);
    }

    /// Keep no record any longer: whoever wants them has been shown them.
    pub(crate) fn forget(&mut self) {
        self.records.clear();
        self.kept = 0;
    }

    /// All records; lines without an end included.
    pub(crate) fn finish(mut self, each: &dyn Fn(&LogRecord)) -> Vec<LogRecord> {
        self.end_line(Stream::Stdout, each);
        self.end_line(Stream::Stderr, each);
        self.records
    }

    fn partial_of(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.partial;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    fn end_line(&mut self, stream: Stream, each: &dyn Fn(&LogRecord)) {
        let bytes = std::mem::take(self.partial_of(stream));
        if bytes.is_empty() {
            return;
        }
        let (source, level) = match stream {
            Stream::Stdout => ("stdout", LogLevel::Info),
            Stream::Stderr => ("stderr", LogLevel::Warning),
        };
        let message = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
        self.keep(
            LogRecord { time: OffsetDateTime::now_utc(), level, source: source.to_owned(), message },
            each,
        );
    }

    fn keep(&mut self, record: LogRecord, each: &dyn Fn(&LogRecord)) {
        if self.kept > self.keep {
            return;
        }
        // An empty line costs as well: a record is more than its text.
        self.kept += record.message.len() + size_of::<LogRecord>();
        let record = if self.kept > self.keep {
            let message = format!("further output is dropped: a run may keep {} bytes", self.keep);
            LogRecord { level: LogLevel::Warning, message, ..record }
        } else {
            record
        };
        each(&record);
        self.records.push(record);
    }
}
