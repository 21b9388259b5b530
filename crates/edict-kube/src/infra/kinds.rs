//! Kinds of objects, and what there is of them by its labels.

use crate::call::Call;
use crate::{Cluster, Fault, Right, names};
use kube::api::{DeleteParams, ListParams, Preconditions};
use serde_json::Value;

/// A kind of object, by where the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    group: String,
    version: String,
    plural: String,
}

impl Kind {
    pub(super) fn new(group: &str, version: &str, plural: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), plural: plural.to_owned() }
    }

    /// With its group: `deployments.apps`.
    pub(super) fn resource(&self) -> String {
        resource(&self.group, &self.plural)
    }

    fn path(&self, namespace: &str) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            "" => format!("{root}/{}", self.plural),
            namespace => format!("{root}/namespaces/{namespace}/{}", self.plural),
        }
    }

    fn right(&self, verb: &'static str, namespace: &str) -> Right {
        Right { verb, resource: self.resource(), namespace: namespace.to_owned() }
    }
}

/// `deployments.apps`, `pods`.
pub(super) fn resource(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// The part of an object that every kind has.
#[derive(Debug, Clone)]
pub(super) struct Found(Value);

impl Found {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(super) fn is_going(&self) -> bool {
        !self.text("/metadata/deletionTimestamp").is_empty()
    }

    pub(super) fn has_annotation(&self, name: &str) -> bool {
        self.0.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(name).is_some())
    }

    pub(super) fn object(&self) -> &Value {
        &self.0
    }
}

impl Cluster {
    /// All of a kind in a namespace (empty: in no namespace), or those that a selector finds; without their contents.
    pub(super) async fn found(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: Option<&str>,
    ) -> Result<Vec<Found>, Fault> {
        let params = ListParams { label_selector: selector.map(str::to_owned), ..ListParams::default() };
        let call = Call::custom(kind.right("list", namespace), kind.path(namespace), |path| {
            path.list_metadata(&params)
        });
        let mut list: Value = self.ask(call).await?.unwrap_or_default();
        let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
        Ok(items.unwrap_or_default().into_iter().map(Found).collect())
    }

    /// Removes the very object that was found, with what it owns.
    pub(super) async fn discard(&self, kind: &Kind, namespace: &str, found: &Found) -> Result<(), Fault> {
        names::check("name", found.name(), names::is_subdomain)?;
        let uid = found.0.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
        let mut params = DeleteParams::background();
        params.preconditions = Some(Preconditions { uid, resource_version: None });
        let call = Call::custom(kind.right("delete", namespace), kind.path(namespace), |path| {
            path.delete(found.name(), &params)
        });
        self.ask::<Value>(call).await.map(drop)
    }
}
