//! Telling executors that there is something for them, and hearing it.
//!
//! Nothing depends on it: executors also look by themselves every [`LOOK`], so that one who is not told is only later.

use super::address::Address;
use super::{EXECUTORS, LOCAL};
use crate::error::ApiError;
use crate::http::Peers;
use crate::store::Store;
use axum::http::Method;
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often executors look whether there is something for them.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// Longest time to tell an executor.
const PATIENCE: Duration = Duration::from_secs(2);

/// Wakes those who work for one executor.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<watch::Sender<()>>);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.send_replace(());
    }

    /// Hears every ring from now on; several in a row may count as one.
    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// The policy system's way to its executors.
pub(crate) struct Wakes {
    store: Store,
    peers: Arc<Peers>,
    /// Of the executor in this process.
    pub(crate) local: Bell,
    /// Executors that are being told, and whether they must be told once more.
    telling: DashMap<String, bool>,
}

impl Wakes {
    pub(crate) fn new(store: Store, peers: Arc<Peers>) -> Arc<Self> {
        Arc::new(Self { store, peers, local: Bell::default(), telling: DashMap::new() })
    }

    /// Tells an executor, without waiting for it.
    pub(crate) fn ring(self: &Arc<Self>, executor_id: &str) {
        if executor_id == LOCAL {
            self.local.ring();
            return;
        }
        match self.telling.entry(executor_id.to_owned()) {
            Entry::Occupied(mut telling) => drop(telling.insert(true)),
            Entry::Vacant(free) => {
                free.insert(false);
                let (wakes, executor_id) = (Arc::clone(self), executor_id.to_owned());
                tokio::spawn(async move { wakes.tell_until_told(&executor_id).await });
            }
        }
    }

    /// Tells an executor after a while.
    pub(crate) fn ring_after(self: &Arc<Self>, executor_id: &str, after: Duration) {
        if after.is_zero() {
            return self.ring(executor_id);
        }
        let (wakes, executor_id) = (Arc::clone(self), executor_id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            wakes.ring(&executor_id);
        });
    }

    async fn tell_until_told(&self, executor_id: &str) {
        loop {
            if let Err(error) = self.tell(executor_id).await {
                tracing::debug!(
                    executor = executor_id,
                    error = error.message(),
                    "an executor could not be told"
                );
            }
            if self.telling.remove_if(executor_id, |_, again| !*again).is_some() {
                return;
            }
            self.telling.insert(executor_id.to_owned(), false);
        }
    }

    async fn tell(&self, executor_id: &str) -> Result<(), ApiError> {
        let document = EXECUTORS.get(&self.store, executor_id).await?;
        let address = Address::of(&self.store, executor_id, &document).await?;
        let Some(address) = address.filter(|address| address.token.is_some()) else { return Ok(()) };
        let told = address.peer(&self.peers).send((Method::POST, "/wake"), Bytes::new(), PATIENCE).await;
        if let Err(lost) = told {
            tracing::debug!(executor = executor_id, error = lost.problem(), "an executor could not be told");
        }
        Ok(())
    }
}
