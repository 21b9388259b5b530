//! Where decisions are written before their replies leave: files of lines, to which one server adds.
//!
//! Each decision is a `write` of its own, of less than a microsecond, into the system's cache of pages. Gathering those of
//! several requests would save half of it, and cost that and more to wake and poll each of them once more. What was written
//! survives the process from then on; what survives the machine is said by the setting `decision_log_sync_ms`.

use super::folder::Folder;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Bytes after which the next segment begins. A segment is what is sent to the database again after a crash.
const SEGMENT: u64 = 16 << 20;

/// The files to which this server adds.
pub(super) struct Spool {
    folder: Folder,
    tail: Mutex<Tail>,
    /// Entries that the table does not have yet, and bytes of all segments; those of former servers included.
    pending: AtomicU64,
    held: AtomicU64,
    /// Bytes beyond which nothing is taken in.
    most: u64,
    synced: watch::Sender<Synced>,
    /// Somebody waits for a sync.
    wanted: Notify,
}

/// Why an entry is not in the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    #[error("the decisions that the database has not taken yet fill the room for them")]
    Full,
    #[error("the file of recorded decisions cannot be written: {0}")]
    Write(#[from] io::Error),
    #[error("recorded decisions cannot be brought to the disk")]
    Sync,
}

/// The segment that is written to.
struct Tail {
    file: Arc<File>,
    number: u64,
    /// Bytes of whole lines.
    length: u64,
    /// The next entry goes to another one: since something behind the lines could not be removed, or since there is no
    /// room, and only a segment that nobody writes to can make some by being removed.
    closed: bool,
    /// Entries written, in all segments of this server.
    recorded: u64,
    /// Segments that were left since the last sync.
    left: Vec<Arc<File>>,
    /// A segment was made since the last sync.
    made: bool,
}

/// How many entries are on the disk; those up to `failed` may not be.
#[derive(Debug, Clone, Copy, Default)]
struct Synced {
    entries: u64,
    failed: u64,
}

impl Spool {
    pub(super) fn open(folder: Folder, most: u64) -> io::Result<Self> {
        let file = Arc::new(folder.create(0)?);
        let tail =
            Tail { file, number: 0, length: 0, closed: false, recorded: 0, left: Vec::new(), made: true };
        Ok(Self {
            folder,
            tail: Mutex::new(tail),
            pending: AtomicU64::new(0),
            held: AtomicU64::new(0),
            most,
            synced: watch::Sender::default(),
            wanted: Notify::new(),
        })
    }

    /// Writes a line. Returns how many there are with it.
    ///
    /// INVARIANT (whole-lines): a segment holds whole lines, and behind them at most the beginning of one whose reply
    /// never left: of a write that failed nothing stays, and a crash can only cut the last one short.
    pub(super) fn append(&self, line: &[u8]) -> Result<u64, SpoolError> {
        let size = line.len() as u64;
        let mut tail = self.tail();
        if tail.closed || tail.length >= SEGMENT {
            tail.next(&self.folder)?;
        }
        if self.held.load(Ordering::Relaxed).saturating_add(size) > self.most {
            tail.closed = tail.length > 0;
            return Err(SpoolError::Full);
        }
        if let Err(error) = (&*tail.file).write_all(line) {
            let spoilt = tail.file.set_len(tail.length).is_err();
            tail.closed = spoilt || tail.length > 0;
            return Err(error.into());
        }
        tail.length += size;
        tail.recorded += 1;
        self.adopt(1, size);
        Ok(tail.recorded)
    }

    /// Waits until the first so many entries survive a power failure.
    pub(super) async fn synced(&self, entries: u64) -> Result<(), SpoolError> {
        let mut synced = self.synced.subscribe();
        self.wanted.notify_one();
        let covered = |synced: &Synced| synced.entries.max(synced.failed) >= entries;
        match synced.wait_for(covered).await {
            Ok(synced) if synced.failed < entries => Ok(()),
            _ => Err(SpoolError::Sync),
        }
    }

    /// Returns when somebody waits in [`Spool::synced`].
    pub(super) async fn sync_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Brings what was written to the disk. Waits for it: not for the async threads.
    pub(super) fn sync(&self) -> io::Result<()> {
        let (entries, files, made) = {
            let mut tail = self.tail();
            let mut files = std::mem::take(&mut tail.left);
            files.push(Arc::clone(&tail.file));
            (tail.recorded, files, std::mem::take(&mut tail.made))
        };
        let names = if made { self.folder.sync() } else { Ok(()) };
        let done = files.iter().try_for_each(|file| file.sync_data()).and(names);
        if done.is_err() {
            // The system tells once that pages were lost, and calls the next sync of the same file a success.
            self.tail().closed = true;
        }
        self.synced.send_modify(|synced| match done {
            Ok(()) => synced.entries = entries,
            Err(_) => synced.failed = entries,
        });
        done
    }

    /// Entries written until now.
    pub(super) fn recorded(&self) -> u64 {
        self.tail().recorded
    }

    /// The segment that is written to; those before it do not change any more.
    pub(super) fn current(&self) -> u64 {
        self.tail().number
    }

    /// Bytes that wait for the database, and how many may.
    pub(super) fn load(&self) -> (u64, u64) {
        (self.held.load(Ordering::Relaxed), self.most)
    }

    /// Entries that the table does not have yet.
    pub(super) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Counts entries that are on their way to the table, and their size.
    pub(super) fn adopt(&self, entries: u64, bytes: u64) {
        self.pending.fetch_add(entries, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts entries that the table has.
    pub(super) fn moved(&self, entries: u64) {
        subtract(&self.pending, entries);
    }

    /// Counts the bytes of a file that is no more.
    pub(super) fn removed(&self, bytes: u64) {
        subtract(&self.held, bytes);
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Whether there is something to bring to the disk.
    pub(super) fn is_unsynced(&self) -> bool {
        self.synced.borrow().entries < self.tail().recorded
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn next(&mut self, folder: &Folder) -> io::Result<()> {
        let file = Arc::new(folder.create(self.number + 1)?);
        self.left.push(std::mem::replace(&mut self.file, file));
        self.number += 1;
        (self.length, self.closed, self.made) = (0, false, true);
        Ok(())
    }
}

fn subtract(from: &AtomicU64, less: u64) {
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(less))).ok();
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
