//! A server that acts on a namespace of a real cluster, with the rights of `deploy/rbac.yaml`.

use super::{Builder, TestApp};
use edict_testbed::Namespace;
use std::path::Path;

impl TestApp {
    /// A server to be configured, for this namespace and by this kubeconfig: the namespace's own, or a proxy's.
    pub(crate) fn on_cluster(namespace: &Namespace, kubeconfig: &Path) -> Builder {
        Self::builder()
            .setting("kubeconfig", kubeconfig.display())
            .setting("allowed_namespaces", namespace.name())
    }
}
