//! What there is of a kind, and its changes, for as long as somebody looks: a list, then a watch from there; when the watch
//! breaks, again.

use crate::call::Kind;
use crate::{Cluster, Fault};
use futures::{TryStreamExt, pin_mut};
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Longest time that a watch is believed in without beginning anew: a connection may be dead without either side's
/// knowing.
const ROUND: Duration = Duration::from_secs(60);

/// Between a watch that broke and the next.
const PAUSE: Duration = Duration::from_millis(500);

/// What is seen.
pub(super) enum Seen<K> {
    /// All there are.
    All(Vec<K>),
    /// One is new, or has changed.
    Now(K),
    /// One is gone.
    Gone(K),
}

/// Somebody who looks. What it answers: how long this must hold to be enough; none if it is not.
pub(super) struct Looking<F> {
    see: F,
    /// When what is seen will be enough, if nothing changes that.
    enough_at: Option<Instant>,
}

impl<F> Looking<F> {
    /// Shows it something; whether it has seen enough.
    fn see<K>(&mut self, seen: Seen<K>) -> bool
    where
        F: FnMut(Seen<K>) -> Option<Duration>,
    {
        let at = (self.see)(seen).map(|hold| Instant::now() + hold);
        self.enough_at = at.map(|at| self.enough_at.map_or(at, |before| before.min(at)));
        self.enough_at.is_some_and(|at| at <= Instant::now())
    }
}

impl Cluster {
    /// Shows `see` what there is until it has seen enough; false if the time was over before.
    pub(super) async fn follow<K: Kind + DeserializeOwned + Clone>(
        &self,
        namespace: &str,
        params: &ListParams,
        mut since: Option<String>,
        deadline: Instant,
        see: impl FnMut(Seen<K>) -> Option<Duration>,
    ) -> Result<bool, Fault> {
        let mut fault = None;
        let mut looking = Looking { see, enough_at: None };
        while Instant::now() < deadline {
            let limit = deadline.min(Instant::now() + ROUND);
            let round = self.round(namespace, params, &mut since, &mut fault, &mut looking);
            match timeout_at(limit, round).await {
                Ok(Ok(true)) => return Ok(true),
                // It ended by itself, or was on for long: on from where it was.
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error @ (Fault::Forbidden { .. } | Fault::Unauthorized { .. }))) => return Err(error),
                Ok(Err(error)) => {
                    tracing::debug!(%error, namespace, "a watch broke");
                    // Also what the API server answers when it has forgotten the version.
                    since = None;
                    looking.enough_at = None;
                    fault = Some(error);
                    sleep_until(deadline.min(Instant::now() + PAUSE)).await;
                }
            }
        }
        fault.map_or(Ok(false), Err)
    }

    async fn round<K: Kind + DeserializeOwned + Clone>(
        &self,
        namespace: &str,
        params: &ListParams,
        since: &mut Option<String>,
        fault: &mut Option<Fault>,
        looking: &mut Looking<impl FnMut(Seen<K>) -> Option<Duration>>,
    ) -> Result<bool, Fault> {
        let version = match since.take() {
            Some(version) => version,
            None => {
                let (all, version) = self.list::<K, K>(namespace, params).await?;
                if looking.see(Seen::All(all)) {
                    return Ok(true);
                }
                version
            }
        };
        let watched = WatchParams {
            label_selector: params.label_selector.clone(),
            field_selector: params.field_selector.clone(),
            ..WatchParams::default()
        };
        let events = self.watch::<K>(namespace, &watched, &version).await?;
        *since = Some(version);
        *fault = None;
        pin_mut!(events);
        loop {
            let event = match looking.enough_at {
                None => events.try_next().await?,
                Some(at) => match timeout_at(at, events.try_next()).await {
                    Ok(event) => event?,
                    Err(_) => return Ok(true),
                },
            };
            let (version, enough) = match event {
                Some(WatchEvent::Added(it) | WatchEvent::Modified(it)) => {
                    (it.meta().resource_version.clone(), looking.see(Seen::Now(it)))
                }
                Some(WatchEvent::Deleted(it)) => {
                    (it.meta().resource_version.clone(), looking.see(Seen::Gone(it)))
                }
                Some(WatchEvent::Bookmark(mark)) => (Some(mark.metadata.resource_version), false),
                Some(WatchEvent::Error(status)) => {
                    return Err(Fault::Refused { message: status.message.clone() });
                }
                None => return Ok(false),
            };
            *since = version.or(since.take());
            if enough {
                return Ok(true);
            }
        }
    }
}
