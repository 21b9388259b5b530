//! The replacement of a pod.

use super::follow::Seen;
use super::{STEADY, health, is_ready, reasons, too_new};
use crate::outcome::{Health, PodOutcome};
use crate::{Cluster, Fault};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What is known of the pods that came after one that was deleted.
struct Replacements<'a> {
    of: &'a PodOutcome,
    came: BTreeMap<String, Pod>,
    gone: bool,
}

impl Cluster {
    pub(super) async fn settle_pod(&self, of: &PodOutcome, patience: Duration) -> Result<Health, Fault> {
        let start = Instant::now();
        let mut params = ListParams::default();
        params.label_selector.clone_from(&of.selector);
        if of.owner.is_none() {
            params = params.fields(&format!("metadata.name={}", of.pod_name));
        }
        let mut replacements = Replacements { of, came: BTreeMap::new(), gone: false };
        let see = |seen| replacements.see(seen);
        let enough =
            self.follow(&of.namespace, &params, Some(of.since.clone()), start + patience, see).await?;
        let pods: Vec<_> = replacements.came.values().map(health).collect();
        let reason = match (enough, &of.owner) {
            (true, _) => None,
            (false, None) => Some(format!("pod `{}` is still there", of.pod_name)),
            (false, Some(owner)) if pods.is_empty() => {
                Some(format!("{} `{}` has made no new pod", owner.kind, owner.name))
            }
            (false, Some(_)) if pods.iter().any(|pod| pod.ready) => Some(too_new()),
            (false, Some(_)) => Some(reasons(&pods)),
        };
        Ok(Health::new(reason, start.elapsed(), pods))
    }
}

impl Replacements<'_> {
    /// How long this must hold to be enough.
    fn see(&mut self, seen: Seen<Pod>) -> Option<Duration> {
        match seen {
            Seen::All(pods) => {
                self.gone = pods.iter().all(|pod| pod.metadata.uid.as_deref() != Some(&self.of.uid));
                // The watch broke, so that the order of things is lost: those count that are young enough.
                let known = std::mem::take(&mut self.came);
                let young = |pod: &Pod| {
                    let known = pod.metadata.uid.as_ref().is_some_and(|uid| known.contains_key(uid));
                    let created = pod.metadata.creation_timestamp.as_ref();
                    known || created.is_some_and(|at| at.0.as_second() >= self.of.deleted_at)
                };
                let young: Vec<_> = pods.into_iter().filter(young).collect();
                young.into_iter().for_each(|pod| self.note(pod));
            }
            Seen::Now(pod) => self.note(pod),
            Seen::Gone(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                self.gone |= uid == self.of.uid;
                self.came.remove(&uid);
            }
        }
        match self.of.owner {
            Some(_) => self.came.values().any(is_ready).then_some(STEADY),
            None => self.gone.then_some(Duration::ZERO),
        }
    }

    fn note(&mut self, pod: Pod) {
        let controlled = |owner: &str| {
            let mut owners = pod.metadata.owner_references.iter().flatten();
            owners.any(|by| by.controller == Some(true) && by.uid == owner)
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let replaces = self.of.owner.as_ref().is_some_and(|owner| controlled(&owner.uid));
        if replaces && uid != self.of.uid {
            self.came.insert(uid, pod);
        }
    }
}
