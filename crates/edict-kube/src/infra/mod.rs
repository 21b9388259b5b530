//! Puts an Edict executor into a cluster, and takes it out again.
//!
//! What is there by that: a namespace if there was none, a service account with exactly the rights that the executor's jobs and
//! functions need, a secret, a service, a deployment of one pod; on demand an ingress, a role that shows nodes, and a daemon set
//! that prepares a folder on each node. All of it carries the marks of its executor; what does not is never touched.

mod address;
mod cache;
mod contents;
mod install;
mod json;
mod kinds;
mod manifests;
mod rights;
mod state;
mod uninstall;

pub use address::Address;
pub use state::{InfraProblem, InfraState};
pub use uninstall::Leftover;

use crate::{Fault, Mark, names};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What an executor's own objects are part of, those of the cache apart.
const EXECUTOR: &str = "executor";

/// The annotation of the service account that says which optional parts there are or may be: what was asked for once and could
/// not be made is looked for when all is removed.
const PARTS: &str = "edict.dev/parts";

/// What is to be there.
#[derive(Clone)]
pub struct Infra {
    /// Whose it is.
    pub mark: Mark,
    /// Created if there is none of this name.
    pub namespace: String,
    /// Of the executor's container.
    pub image: String,
    /// The secret in the namespace with which the image is pulled.
    pub image_pull_secret: Option<String>,
    /// Variables of the executor's container.
    pub env: BTreeMap<String, String>,
    /// Variables that come from a secret.
    pub secret: BTreeMap<String, String>,
    /// Where the executor listens; it answers `GET /healthz` and `GET /readyz` there.
    pub port: u16,
    /// How it is reached.
    pub exposure: Exposure,
    /// How it is reached from outside the cluster by a host name.
    pub ingress: Option<Ingress>,
    /// A folder on the nodes that is made for jobs and functions to share, `/var/lib/edict/…`. It is removed in the end, with
    /// everything in it.
    pub cache: Option<String>,
    /// Whether the executor may see the cluster's nodes.
    pub node_access: bool,
    /// Of the executor's container, in Kubernetes' units: `250m`.
    pub cpu_request: String,
    /// Of the executor's container, in Kubernetes' units: `512Mi`.
    pub memory_request: String,
    /// Of the executor's container, in Kubernetes' units: `2Gi`.
    pub memory_limit: String,
    /// Runs instead of the image's own program.
    #[doc(hidden)]
    pub command: Option<Vec<String>>,
}

/// How an executor's service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exposure {
    /// At a port of each node.
    #[default]
    NodePort,
    /// Within the cluster.
    ClusterIp,
    /// At an address that the cluster's provider gives it.
    LoadBalancer,
}

/// A host name that an ingress controller serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ingress {
    /// The host name.
    pub host: String,
    /// Which controller; without it the cluster's default.
    pub class: Option<String>,
    /// The secret in the namespace with the host's certificate; without it there is no TLS.
    pub tls_secret: Option<String>,
    /// What the controller wants to be told.
    pub annotations: BTreeMap<String, String>,
}

impl Infra {
    /// The folder on the nodes for this executor's jobs and functions.
    #[must_use]
    pub fn host_path(mark: &Mark) -> String {
        // With the policy system's name, since another one may have an executor of this id in the same cluster.
        format!("{}/{}.{}", cache::PARENT, mark.key(), mark.system)
    }

    /// The namespace where none is named.
    #[must_use]
    pub fn default_namespace(mark: &Mark) -> String {
        format!("edict-{}", mark.key())
    }

    /// Refuses what would lead elsewhere than it says.
    fn check(&self) -> Result<(), Fault> {
        names::check("namespace", &self.namespace, names::is_label)?;
        self.cache.as_deref().map_or(Ok(()), cache::check)
    }

    fn parts(&self) -> BTreeSet<Part> {
        let asked = [
            (self.ingress.is_some(), Part::Ingress),
            (self.cache.is_some(), Part::Cache),
            (self.node_access, Part::Nodes),
        ];
        asked.into_iter().filter(|(asked, _)| *asked).map(|(_, part)| part).collect()
    }
}

/// Secrets are not shown.
impl fmt::Debug for Infra {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Infra");
        shown.field("mark", &self.mark).field("namespace", &self.namespace).field("image", &self.image);
        shown.field("exposure", &self.exposure).field("ingress", &self.ingress).field("cache", &self.cache);
        shown.finish_non_exhaustive()
    }
}

/// What not every executor has. The credentials of one that has it not need no right to look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Ingress,
    Cache,
    Nodes,
}

impl Part {
    const ALL: [Self; 3] = [Self::Ingress, Self::Cache, Self::Nodes];

    fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Cache => "cache",
            Self::Nodes => "nodes",
        }
    }

    /// As an annotation's value.
    fn words(parts: &BTreeSet<Self>) -> String {
        parts.iter().map(|part| part.word()).collect::<Vec<_>>().join(" ")
    }

    fn read(words: &str) -> BTreeSet<Self> {
        let there = |part: &Self| words.split(' ').any(|word| word == part.word());
        Self::ALL.into_iter().filter(there).collect()
    }
}

/// Names of objects: the key of an executor has 51 letters at most.
fn main_name(mark: &Mark) -> String {
    format!("edict-{}", mark.key())
}

/// The name of what is in no namespace. Neither part has a dot, so that no two are the same.
fn cluster_wide_name(mark: &Mark, namespace: &str) -> String {
    format!("edict.{namespace}.{}", mark.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        for parts in [&Part::ALL[..], &[], &[Part::Cache]] {
            let parts: BTreeSet<_> = parts.iter().copied().collect();
            assert_eq!(Part::read(&Part::words(&parts)), parts);
        }
    }
}
