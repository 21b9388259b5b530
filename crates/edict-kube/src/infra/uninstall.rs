//! Removes what an executor has in a cluster.

use super::json::at;
use super::kinds::{Found, Kind};
use super::manifests::namespace as namespace_manifest;
use super::{EXECUTOR, Part, cache};
use crate::ours::COMPONENT_LABEL;
use crate::{Cluster, Fault, Mark, names};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at what is still there.
const PAUSE: Duration = Duration::from_millis(500);

/// Something that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// ``pods `x` ``.
    pub what: String,
    /// Why it is still there.
    pub why: String,
}

impl fmt::Display for Leftover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.what, self.why)
    }
}

/// A removal under way.
struct Removal<'a> {
    cluster: &'a Cluster,
    mark: &'a Mark,
    namespace: &'a str,
    /// The optional parts that there are or may be.
    parts: BTreeSet<Part>,
    deadline: Instant,
    left: Vec<Leftover>,
}

impl Cluster {
    /// Removes what [`install`](Self::install) and the executor have made, and nothing else, and waits up to `patience` until it
    /// is gone; the namespace too, if it was made for this and holds nothing else. Returns what is still there. After a failure
    /// it can be done again.
    ///
    /// # Errors
    /// The API server cannot be reached, or does not let something be removed.
    pub async fn uninstall(
        &self,
        mark: &Mark,
        namespace: &str,
        patience: Duration,
    ) -> Result<Vec<Leftover>, Fault> {
        names::check("namespace", namespace, names::is_label)?;
        let start = Instant::now();
        let parts = self.parts(mark, namespace).await?.unwrap_or_default();
        let deadline = start + patience;
        let mut removal = Removal { cluster: self, mark, namespace, parts, deadline, left: Vec::new() };
        removal.executor(start + patience / 2).await?;
        // A pod on a node that cannot be reached might go on for long. From here on it has no rights to make anything.
        removal.grants().await?;
        removal.workloads().await?;
        removal.cache().await?;
        removal.rest().await?;
        removal.namespace().await?;
        Ok(removal.left)
    }
}

impl Removal<'_> {
    /// First, so that it makes nothing while the rest is removed. It has time to end in order; with it the pods of a cache that
    /// never came to be, since a kubelet takes a minute for one whose image it cannot pull.
    async fn executor(&mut self, until: Instant) -> Result<(), Fault> {
        let mut selector = self.mark.selector(Some(EXECUTOR));
        self.sweep(&[(deployments(), self.namespace, None)], &selector, until).await?;
        let pods = self.cluster.cache_pods(self.mark, self.namespace).await?;
        if cache::is_nowhere(&pods) {
            self.daemon_set(until).await?;
            selector =
                format!("{},{COMPONENT_LABEL} in ({EXECUTOR},{})", self.mark.selector(None), cache::CACHE);
        }
        self.wait_for_pods(&selector, until).await?;
        // What has not gone by now has the rest of the time, and is looked at again.
        self.left.clear();
        Ok(())
    }

    async fn daemon_set(&mut self, until: Instant) -> Result<(), Fault> {
        let sets = [(Kind::new("apps", "v1", "daemonsets"), self.namespace, Some(Part::Cache))];
        self.sweep(&sets, &self.mark.selector(Some(cache::CACHE)), until).await
    }

    async fn grants(&mut self) -> Result<(), Fault> {
        let selector = self.mark.selector(None);
        let bindings = [
            (rbac("rolebindings"), self.namespace, None),
            (rbac("clusterrolebindings"), "", Some(Part::Nodes)),
        ];
        self.sweep(&bindings, &selector, self.deadline).await
    }

    async fn workloads(&mut self) -> Result<(), Fault> {
        let here = self.namespace;
        let all = [
            // Before what they scale.
            (Kind::new("autoscaling", "v1", "horizontalpodautoscalers"), here, None),
            (deployments(), here, None),
            (Kind::new("batch", "v1", "jobs"), here, None),
            (Kind::new("networking.k8s.io", "v1", "ingresses"), here, Some(Part::Ingress)),
            (Kind::new("", "v1", "services"), here, None),
            (Kind::new("", "v1", "secrets"), here, None),
        ];
        self.sweep(&all, &self.mark.selector(None), self.deadline).await?;
        let selector = format!("{},{}!={}", self.mark.selector(None), COMPONENT_LABEL, cache::CACHE);
        self.wait_for_pods(&selector, self.deadline).await
    }

    async fn cache(&mut self) -> Result<(), Fault> {
        match self.cluster.clean_cache(self.mark, self.namespace, self.deadline).await {
            Ok(None) => {}
            Ok(Some(what)) => {
                self.leave(what, "nodes have not said that they removed it: remove it there by hand");
            }
            Err(Fault::Forbidden { .. }) if !self.parts.contains(&Part::Cache) => return Ok(()),
            Err(fault) => return Err(fault),
        }
        self.daemon_set(self.deadline).await?;
        let selector = self.mark.selector(Some(cache::CACHE));
        self.wait_for_pods(&selector, self.deadline).await
    }

    async fn rest(&mut self) -> Result<(), Fault> {
        let selector = self.mark.selector(None);
        let roles = [(rbac("clusterroles"), "", Some(Part::Nodes)), (rbac("roles"), self.namespace, None)];
        self.sweep(&roles, &selector, self.deadline).await?;
        // Last, since it says what else there may be.
        let accounts = [(Kind::new("", "v1", "serviceaccounts"), self.namespace, None)];
        self.sweep(&accounts, &selector, self.deadline).await
    }

    async fn namespace(&mut self) -> Result<(), Fault> {
        let manifest = namespace_manifest(self.namespace);
        // Without the right to see it, it was not made with these credentials.
        let found = match self.cluster.find(&manifest).await {
            Err(Fault::Forbidden { .. }) => return Ok(()),
            found => found?,
        };
        let Some(found) = found.filter(|found| self.mark.is_on(found)) else { return Ok(()) };
        let shown = format!("namespace `{}`", self.namespace);
        if at(&found, "/metadata/deletionTimestamp").is_null() {
            match self.cluster.others_in(self.mark, self.namespace).await {
                Ok(others) if others.is_empty() => {}
                Ok(others) => {
                    self.leave(shown, &format!("it holds what Edict did not make: {}", some_of(&others)));
                    return Ok(());
                }
                // Perhaps the part of the API server that serves a custom resource is down; or a right is missing.
                Err(fault) => {
                    self.leave(
                        shown,
                        &format!("whether it holds what Edict did not make is not known: {fault}"),
                    );
                    return Ok(());
                }
            }
            self.cluster.take_away(self.mark, &manifest).await?;
        }
        while self.cluster.find(&manifest).await?.is_some() {
            if Instant::now() >= self.deadline {
                self.leave(shown, "it is still being deleted");
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Removes all that the selector finds, until there is none.
    async fn sweep(
        &mut self,
        kinds: &[(Kind, &str, Option<Part>)],
        selector: &str,
        until: Instant,
    ) -> Result<(), Fault> {
        loop {
            let mut there = Vec::new();
            for (kind, namespace, part) in kinds {
                let found = match self.patiently(kind, namespace, selector, until).await {
                    // With these credentials no such part was made.
                    Err(Fault::Forbidden { .. }) if part.is_some_and(|part| !self.parts.contains(&part)) => {
                        continue;
                    }
                    found => found?,
                };
                for found in found {
                    if !found.is_going() {
                        match self.cluster.discard(kind, namespace, &found).await {
                            // It was replaced meanwhile: the next look tells.
                            Ok(()) | Err(Fault::Conflict { .. }) => {}
                            // So it does whether it was removed.
                            Err(fault) if may_pass(&fault) => {}
                            Err(fault) => return Err(fault),
                        }
                    }
                    there.push(format!("{} `{}`", kind.resource(), found.name()));
                }
            }
            if there.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                there.into_iter().for_each(|what| self.leave(what, "it is still being deleted"));
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// Pods are removed with what they belong to.
    async fn wait_for_pods(&mut self, selector: &str, until: Instant) -> Result<(), Fault> {
        let pods = Kind::new("", "v1", "pods");
        loop {
            let there = self.patiently(&pods, self.namespace, selector, until).await?;
            if there.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                for pod in there {
                    self.leave(format!("pods `{}`", pod.name()), "it has not ended; its node may be down");
                }
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// What there is. A moment without an API server does not end what is under way.
    async fn patiently(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &str,
        until: Instant,
    ) -> Result<Vec<Found>, Fault> {
        loop {
            match self.cluster.found(kind, namespace, Some(selector)).await {
                Err(fault) if may_pass(&fault) && Instant::now() < until => sleep(PAUSE).await,
                found => return found,
            }
        }
    }

    fn leave(&mut self, what: String, why: &str) {
        if !self.left.iter().any(|left| left.what == what) {
            self.left.push(Leftover { what, why: why.to_owned() });
        }
    }
}

fn may_pass(fault: &Fault) -> bool {
    matches!(fault, Fault::Unavailable { .. } | Fault::Timeout { .. } | Fault::Busy { .. })
}

fn deployments() -> Kind {
    Kind::new("apps", "v1", "deployments")
}

fn rbac(plural: &str) -> Kind {
    Kind::new("rbac.authorization.k8s.io", "v1", plural)
}

/// The first few, and how many more.
fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
