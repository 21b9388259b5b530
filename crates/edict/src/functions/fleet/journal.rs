//! The last lines of a function's replicas, in memory.

use edict_client::records::FunctionLog;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept.
const LINES: usize = 1000;
/// Bytes of text that are kept.
const BYTES: usize = 512 << 10;
/// Bytes of one line that are kept.
const LONGEST: usize = 16 << 10;

/// The last lines, of all replicas together.
#[derive(Default)]
pub(super) struct Journal(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<FunctionLog>,
    bytes: usize,
}

impl Journal {
    pub(super) fn add(&self, replica: u64, record: &edict_runtime::LogRecord) {
        let mut record = crate::execution::log_record(record.clone());
        if record.message.len() > LONGEST {
            let end = record.message.floor_char_boundary(LONGEST);
            record.message.truncate(end);
            record.message.push('…');
        }
        let mut kept = self.kept();
        kept.bytes += record.message.len();
        kept.lines.push_back(FunctionLog { replica, record });
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let Some(oldest) = kept.lines.pop_front() else { return };
            kept.bytes -= oldest.record.message.len();
        }
    }

    /// The last `limit` lines, the oldest first.
    pub(super) fn last(&self, limit: usize) -> Vec<FunctionLog> {
        let kept = self.kept();
        let skip = kept.lines.len().saturating_sub(limit);
        kept.lines.iter().skip(skip).cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edict_runtime::{LogLevel, LogRecord};

    fn line(message: String) -> LogRecord {
        let time = time::OffsetDateTime::now_utc();
        LogRecord { time, level: LogLevel::Info, source: "stdout".to_owned(), message }
    }

    #[test]
    fn the_last_lines_are_kept_within_bounds() {
        let journal = Journal::default();
        for number in 0..LINES + 5 {
            journal.add(1, &line(number.to_string()));
        }
        assert_eq!(journal.last(usize::MAX).len(), LINES);
        assert_eq!(journal.last(1)[0].record.message, (LINES + 4).to_string());
        for _ in 0..100 {
            journal.add(2, &line("é".repeat(LONGEST)));
        }
        let kept = journal.last(usize::MAX);
        let bytes: usize = kept.iter().map(|line| line.record.message.len()).sum();
        assert!(bytes <= BYTES && kept.len() > 10, "{bytes} bytes of {} lines", kept.len());
    }
}
