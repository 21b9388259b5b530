//! Records in the form that requests need, kept in memory until they change.

use crate::error::ApiError;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is kept of one kind of record, by key.
///
/// INVARIANT (fresh): what [`Kept::get`] returns was current in the database at some moment after the call began, or
/// is kept in memory since then without a change having been announced. A change announces itself with
/// [`Kept::forget`]: by the handler that made it before it answers, and by the database to other servers. A record that
/// was read before a change is not kept, since the generation has moved on.
pub(crate) struct Kept<T> {
    entries: DashMap<String, Arc<T>>,
    /// How many at most; beyond it all are dropped, and made again when needed.
    most: usize,
    /// Grows whenever a record changes.
    generation: AtomicU64,
}

impl<T> Kept<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: DashMap::new(), most, generation: AtomicU64::new(0) }
    }

    /// What is kept under `key`, else what `load` makes of the record.
    ///
    /// # Errors
    /// What `load` says.
    pub(crate) async fn get(
        &self,
        key: &str,
        load: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<Arc<T>, ApiError> {
        if let Some(kept) = self.entries.get(key) {
            return Ok(Arc::clone(&kept));
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let fresh = Arc::new(load.await?);
        if self.entries.len() >= self.most {
            self.entries.clear();
        }
        self.entries.insert(key.to_owned(), Arc::clone(&fresh));
        if self.generation.load(Ordering::SeqCst) != generation {
            self.entries.remove(key);
        }
        Ok(fresh)
    }

    /// Drops what is kept of a record, since it changed.
    pub(crate) fn forget(&self, key: &str) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.entries.remove(key);
    }

    /// Drops everything, since changes may have been missed.
    pub(crate) fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.entries.clear();
    }
}
