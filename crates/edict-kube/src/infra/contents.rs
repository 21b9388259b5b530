//! What else there is in a namespace.

use super::json::at;
use super::kinds::Kind;
use crate::call::Call;
use crate::{Cluster, Fault, Mark, Right};
use kube::api::ListParams;
use serde_json::Value;

/// What Kubernetes keeps about other objects, and what is derived from them: nobody's.
const NOBODYS: [&str; 7] = [
    "events",
    "events.events.k8s.io",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "pods.metrics.k8s.io",
    "podmetrics.metrics.k8s.io",
    "controllerrevisions.apps",
];

/// What Kubernetes puts into every namespace.
const EVERYWHERE: [(&str, &str); 2] = [("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")];

/// The annotation of secrets that Kubernetes makes for service accounts, and removes with them.
const TOKEN: &str = "kubernetes.io/service-account.name";

impl Cluster {
    /// What in a namespace is not this executor's, as `configmaps `x``: all kinds that the API server has are looked at,
    /// those of custom resources too.
    pub(super) async fn others_in(&self, mark: &Mark, namespace: &str) -> Result<Vec<String>, Fault> {
        let mut others = Vec::new();
        for kind in self.kinds().await? {
            let resource = kind.resource();
            if NOBODYS.contains(&resource.as_str()) {
                continue;
            }
            for found in self.found(&kind, namespace, None).await? {
                let usual = EVERYWHERE.contains(&(resource.as_str(), found.name()))
                    || (resource == "secrets" && found.has_annotation(TOKEN));
                if !usual && !mark.is_on(found.object()) {
                    others.push(format!("{resource} `{}`", found.name()));
                }
            }
        }
        Ok(others)
    }

    /// The kinds of objects in namespaces that can be listed, each in the version that the API server prefers.
    async fn kinds(&self) -> Result<Vec<Kind>, Fault> {
        let mut kinds = self.kinds_of("", "v1").await?;
        let groups: Value = self.discover("/apis").await?;
        for group in at(&groups, "/groups").as_array().into_iter().flatten() {
            let (name, version) =
                (at(group, "/name").as_str(), at(group, "/preferredVersion/version").as_str());
            if let (Some(name), Some(version)) = (name, version) {
                kinds.extend(self.kinds_of(name, version).await?);
            }
        }
        Ok(kinds)
    }

    async fn kinds_of(&self, group: &str, version: &str) -> Result<Vec<Kind>, Fault> {
        let path = match group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let found = self.discover(&path).await?;
        let listed = at(&found, "/resources").as_array().into_iter().flatten().filter(|resource| {
            let verbs = at(resource, "/verbs").as_array();
            at(resource, "/namespaced") == true
                && verbs.is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"))
        });
        let kind = |resource: &Value| Some(Kind::new(group, version, at(resource, "/name").as_str()?));
        Ok(listed.filter_map(kind).collect())
    }

    async fn discover(&self, path: &str) -> Result<Value, Fault> {
        let right = Right { verb: "get", resource: path.to_owned(), namespace: String::new() };
        let call = Call::custom(right, path.to_owned(), |path| path.list(&ListParams::default()));
        Ok(self.ask(call).await?.unwrap_or_default())
    }
}
