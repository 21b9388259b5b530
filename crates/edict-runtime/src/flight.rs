//! Work that concurrent callers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One attempt's outcome, once there is one.
type Slot<T, E> = tokio::sync::Mutex<Option<Result<T, E>>>;

/// Runs work once for all who ask for the same key at the same time.
///
/// Those who wait share the outcome, a failure included: fifty callers of what cannot work do not try it
/// fifty times. Who asks later starts anew. When the caller that does the work is dropped, one of those
/// who wait takes over.
pub(crate) struct Flights<T, E> {
    slots: Mutex<HashMap<String, Weak<Slot<T, E>>>>,
}

impl<T, E> Default for Flights<T, E> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<T: Clone, E: Clone> Flights<T, E> {
    pub(crate) async fn run<F>(&self, key: &str, work: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let slot = self.slot(key);
        let mut outcome = slot.lock().await;
        if let Some(shared) = outcome.as_ref() {
            return shared.clone();
        }
        let result = work.await;
        *outcome = Some(result.clone());
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        result
    }

    fn slot(&self, key: &str) -> Arc<Slot<T, E>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::new(Slot::default());
        slots.insert(key.to_owned(), Arc::downgrade(&slot));
        slot
    }
}
