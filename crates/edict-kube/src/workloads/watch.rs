//! A copy of the objects of one kind that follows the cluster: a list, then a watch from there; when the watch breaks, again.

use crate::call::Kind;
use crate::{Cluster, Fault};
use futures::{TryStreamExt, pin_mut};
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Longest time that a watch is believed in without beginning anew: a connection may be dead without either side's
/// knowing.
const ROUND: Duration = Duration::from_secs(60);

/// Between a watch that broke and the next list: the first time, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What is seen of a kind, by name: those of one Job begin alike, and so do those of one Deployment.
pub(super) struct Mirror<K> {
    objects: RwLock<BTreeMap<String, Arc<K>>>,
}

impl<K> Mirror<K> {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<K>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<K>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of this name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<K>> {
        self.read().get(name).cloned()
    }

    /// All, in the order of their names.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.read().values().cloned().collect()
    }

    /// Those whose names begin like this.
    pub(super) fn beginning(&self, prefix: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let range = objects.range(prefix.to_owned()..);
        range.take_while(|(name, _)| name.starts_with(prefix)).map(|(_, object)| Arc::clone(object)).collect()
    }
}

/// What is looked at, and who is told of changes.
#[derive(Clone)]
pub(super) struct Watching {
    pub(super) cluster: Arc<Cluster>,
    pub(super) namespace: String,
    pub(super) selector: String,
    pub(super) changes: watch::Sender<u64>,
}

impl Watching {
    /// Fills a copy and follows the cluster for as long as the set of tasks is there.
    pub(super) async fn start<K: Kind + DeserializeOwned + Clone + Send + Sync + 'static>(
        &self,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Mirror<K>>, Fault> {
        let mirror = Arc::new(Mirror { objects: RwLock::default() });
        let since = self.list(&mirror).await?;
        let (watching, followed) = (self.clone(), Arc::clone(&mirror));
        tasks.spawn(async move { watching.follow(&followed, since).await });
        Ok(mirror)
    }

    async fn follow<K: Kind + DeserializeOwned + Clone>(&self, mirror: &Mirror<K>, since: String) {
        let mut since = Some(since);
        let mut pause = PAUSES.0;
        loop {
            let started = Instant::now();
            match timeout(ROUND, self.round(mirror, &mut since)).await {
                // It ended by itself, or was on for long: on from where it was.
                Ok(Ok(())) | Err(_) => pause = PAUSES.0,
                Ok(Err(error)) => {
                    // Also what the API server answers when it has forgotten the version.
                    since = None;
                    if started.elapsed() > PAUSES.1 {
                        pause = PAUSES.0;
                    }
                    let (kind, namespace) = (K::kind(&()), &self.namespace);
                    tracing::warn!(%error, %kind, namespace, "a watch of the cluster broke, trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn round<K: Kind + DeserializeOwned + Clone>(
        &self,
        mirror: &Mirror<K>,
        since: &mut Option<String>,
    ) -> Result<(), Fault> {
        let version = match since.take() {
            Some(version) => version,
            // Credentials that are no longer good are read again by this, see `Cluster::ask`.
            None => self.list(mirror).await?,
        };
        let params = WatchParams::default().labels(&self.selector);
        let events = self.cluster.watch::<K>(&self.namespace, &params, &version).await?;
        *since = Some(version);
        pin_mut!(events);
        while let Some(event) = events.try_next().await? {
            let version = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(mirror, object),
                WatchEvent::Deleted(object) => self.take(mirror, &object),
                WatchEvent::Bookmark(mark) => Some(mark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(Fault::Refused { message: status.message.clone() }),
            };
            *since = version.or(since.take());
        }
        Ok(())
    }

    async fn list<K: Kind + DeserializeOwned + Clone>(&self, mirror: &Mirror<K>) -> Result<String, Fault> {
        let params = ListParams::default().labels(&self.selector);
        let (objects, version) = self.cluster.list::<K, K>(&self.namespace, &params).await?;
        *mirror.write() = objects.into_iter().map(|object| kept(object)).collect();
        self.changed();
        Ok(version)
    }

    fn put<K: Kind>(&self, mirror: &Mirror<K>, object: K) -> Option<String> {
        let version = object.meta().resource_version.clone();
        let (name, object) = kept(object);
        mirror.write().insert(name, object);
        self.changed();
        version
    }

    fn take<K: Kind>(&self, mirror: &Mirror<K>, object: &K) -> Option<String> {
        mirror.write().remove(object.meta().name.as_deref().unwrap_or_default());
        self.changed();
        object.meta().resource_version.clone()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// An object without what nobody looks at and is half of its size.
fn kept<K: Kind>(mut object: K) -> (String, Arc<K>) {
    object.meta_mut().managed_fields = None;
    (object.meta().name.clone().unwrap_or_default(), Arc::new(object))
}
