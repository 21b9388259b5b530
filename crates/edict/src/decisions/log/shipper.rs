//! Moves recorded decisions from files to the table.

use super::folder::Folder;
use super::spool::Spool;
use super::table::{Table, unusable};
use crate::error::ApiError;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Entries in one statement at most. On one core decisions wait for it, so it is to take no more than half a millisecond.
const BATCH: usize = 128;

/// Bytes that are read at once, unless a single entry is larger.
const BYTES: usize = 256 << 10;

/// Takes entries out of files, in their order, into the table. Its futures may be dropped at any time: then the batch
/// that was on its way goes again.
pub(super) struct Shipper {
    table: Arc<Table>,
    spool: Arc<Spool>,
    /// What former servers left.
    adopted: VecDeque<Source>,
    own: Place,
    /// Entries of this server that the table has.
    shipped: u64,
}

/// A folder that nobody writes to.
struct Source {
    folder: Folder,
    segments: VecDeque<u64>,
    place: Place,
}

/// How far a folder is read.
#[derive(Default)]
struct Place {
    segment: u64,
    offset: u64,
    file: Option<File>,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A batch was moved, or a file removed.
    Done,
    /// There is nothing to do.
    Idle,
}

impl Shipper {
    pub(super) fn new(table: Arc<Table>, spool: Arc<Spool>) -> Self {
        Self { table, spool, adopted: VecDeque::new(), own: Place::default(), shipped: 0 }
    }

    /// Whether the table has the first so many entries of this server, and all that former servers left.
    pub(super) fn has(&self, recorded: u64) -> bool {
        self.shipped >= recorded && self.adopted.is_empty()
    }

    /// Takes over what servers left that are gone.
    pub(super) fn adopt(&mut self) -> io::Result<()> {
        for folder in Folder::abandoned(&self.table.root)? {
            let segments: VecDeque<u64> = folder.segments()?.into();
            let (mut entries, mut bytes) = (0, 0);
            for segment in &segments {
                let text = folder.read(*segment)?;
                entries += memchr::memchr_iter(b'\n', &text).count() as u64;
                bytes += text.len() as u64;
            }
            if entries > 0 {
                tracing::info!(
                    entries,
                    "a former server left recorded decisions; they go to the database now"
                );
            }
            self.spool.adopt(entries, bytes);
            let place = Place { segment: segments.front().copied().unwrap_or(0), ..Place::default() };
            self.adopted.push_back(Source { folder, segments, place });
        }
        Ok(())
    }

    /// Moves one batch, or removes one file that is done with.
    ///
    /// INVARIANT (shipped-first): a file is removed only when the table has all of its entries. A batch of which it is
    /// not known whether it was committed goes again; an entry that is there already is passed over.
    pub(super) async fn step(&mut self) -> Result<Step, ApiError> {
        let Some(source) = self.adopted.front_mut() else { return self.step_own().await };
        let Some(segment) = source.segments.front().copied() else {
            source.folder.remove().map_err(unusable)?;
            self.adopted.pop_front();
            return Ok(Step::Done);
        };
        let moved = move_batch(&self.table, &source.folder, &mut source.place).await?;
        self.spool.moved(moved);
        if moved == 0 {
            self.spool.removed(source.folder.delete(segment).map_err(unusable)?);
            source.segments.pop_front();
            let segment = source.segments.front().copied().unwrap_or(0);
            source.place = Place { segment, ..Place::default() };
        }
        Ok(Step::Done)
    }

    async fn step_own(&mut self) -> Result<Step, ApiError> {
        // Asked before the file is read: what is written meanwhile must not lie behind what is taken for its end.
        let closed = self.spool.current() > self.own.segment;
        let folder = self.spool.folder();
        let moved = move_batch(&self.table, folder, &mut self.own).await?;
        self.spool.moved(moved);
        self.shipped += moved;
        match moved {
            0 if closed => {
                self.spool.removed(folder.delete(self.own.segment).map_err(unusable)?);
                self.own = Place { segment: self.own.segment + 1, ..Place::default() };
                Ok(Step::Done)
            }
            0 => Ok(Step::Idle),
            _ => Ok(Step::Done),
        }
    }

    /// Removes this server's folder, of which the table has everything and to which nobody adds any more.
    pub(super) fn close(&mut self) {
        let folder = self.spool.folder();
        let removed = folder.delete(self.own.segment).and_then(|_| folder.remove());
        if let Err(error) = removed {
            tracing::warn!(%error, "the folder of recorded decisions stays");
        }
    }
}

/// Moves the next entries of a file and tells how many; 0 when no whole line is left in it.
async fn move_batch(table: &Table, folder: &Folder, place: &mut Place) -> Result<u64, ApiError> {
    let file = match place.file.take() {
        Some(file) => file,
        None => folder.open(place.segment).map_err(unusable)?,
    };
    let text = read_lines(place.file.insert(file), place.offset).map_err(unusable)?;
    let count = batch_of(&text);
    if count == 0 {
        return Ok(0);
    }
    let lines = || text.split_inclusive(|byte| *byte == b'\n').take(count);
    table.store(lines()).await?;
    place.offset += lines().map(<[u8]>::len).sum::<usize>() as u64;
    Ok(count as u64)
}

/// How many of a text's lines go together: a power of two, so that the databases prepare a handful of statements and not
/// one for each number.
fn batch_of(text: &[u8]) -> usize {
    let lines = memchr::memchr_iter(b'\n', text).take(BATCH).count();
    lines.checked_ilog2().map_or(0, |power| 1 << power)
}

/// Reads whole lines from an offset on: at least one, if there is one.
fn read_lines(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut room = BYTES;
    loop {
        let mut text = vec![0; room];
        let read = read_fully(file, &mut text, offset)?;
        let end = memchr::memrchr(b'\n', text.get(..read).unwrap_or_default()).map_or(0, |end| end + 1);
        if end > 0 || read < room {
            text.truncate(end);
            return Ok(text);
        }
        room *= 4;
    }
}

fn read_fully(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[path = "shipper_tests.rs"]
mod tests;
