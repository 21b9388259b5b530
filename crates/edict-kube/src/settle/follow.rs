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

impl Cluster {
    /// Shows `see` what there is until it has seen enough; false if the time was over before.
    pub(super) async fn follow<K: Kind + DeserializeOwned + Clone>(
        &self,
        namespace: &str,
        params: &ListParams,
        mut since: Option<String>,
        deadline: Instant,
        mut see: impl FnMut(Seen<K>) -> bool,
    ) -> Result<bool, Fault> {
        let mut fault = None;
        while Instant::now() < deadline {
            let limit = deadline.min(Instant::now() + ROUND);
            let round = self.round(namespace, params, &mut since, &mut fault, &mut see);
            match timeout_at(limit, round).await {
                Ok(Ok(true)) => return Ok(true),
                // It ended by itself, or was on for long: on from where it was.
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error @ (Fault::Forbidden { .. } | Fault::Unauthorized { .. }))) => return Err(error),
                Ok(Err(error)) => {
                    tracing::debug!(%error, namespace, "a watch broke");
                    // Also what the API server answers when it has forgotten the version.
                    since = None;
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
        see: &mut impl FnMut(Seen<K>) -> bool,
    ) -> Result<bool, Fault> {
        let version = match since.take() {
            Some(version) => version,
            None => {
                let (all, version) = self.list::<K, K>(namespace, params).await?;
                if see(Seen::All(all)) {
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
        while let Some(event) = events.try_next().await? {
            let (version, enough) = match event {
                WatchEvent::Added(it) | WatchEvent::Modified(it) => {
                    (it.meta().resource_version.clone(), see(Seen::Now(it)))
                }
                WatchEvent::Deleted(it) => (it.meta().resource_version.clone(), see(Seen::Gone(it))),
                WatchEvent::Bookmark(mark) => (Some(mark.metadata.resource_version), false),
                WatchEvent::Error(status) => return Err(Fault::Refused { message: status.message.clone() }),
            };
            *since = version.or(since.take());
            if enough {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
