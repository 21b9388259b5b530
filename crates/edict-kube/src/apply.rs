//! Objects of any kind: made, brought to what a manifest says, removed.

use crate::call::Call;
use crate::outcome::DeploymentOutcome;
use crate::{Cluster, Fault, Health, Right, names};
use kube::Resource;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Where an object is, by its manifest.
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) name: String,
    resource: String,
    namespace: String,
}

impl Place {
    pub(crate) fn of(manifest: &Value) -> Result<Self, Fault> {
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        names::check("name", name, names::is_subdomain)?;
        if !namespace.is_empty() {
            names::check("namespace", namespace, names::is_label)?;
        }
        let path = DynamicObject::url_path(&resource, Some(namespace).filter(|name| !name.is_empty()));
        let resource = match group {
            "" => resource.plural,
            group => format!("{}.{group}", resource.plural),
        };
        Ok(Self { path, name: name.to_owned(), resource, namespace: namespace.to_owned() })
    }

    pub(crate) fn right(&self, verb: &'static str) -> Right {
        Right { verb, resource: self.resource.clone(), namespace: self.namespace.clone() }
    }

    /// The fault when there is no such namespace.
    pub(crate) fn no_namespace(&self) -> Fault {
        let namespace = self.namespace.clone();
        Fault::NotFound { kind: "namespace", name: namespace.clone(), namespace }
    }

    /// The fault when an object of that name is somebody else's.
    pub(crate) fn not_ours(&self) -> Fault {
        Fault::Conflict {
            why: format!(
                "{self} exists and was not made by this policy system for this executor: remove it, or choose another \
                 namespace"
            ),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` of {}", self.name, self.resource)?;
        match self.namespace.as_str() {
            "" => Ok(()),
            namespace => write!(formatter, " in namespace `{namespace}`"),
        }
    }
}

impl Cluster {
    /// Makes the object that the manifest describes, or brings it to that, and returns it as it is then. What others set in
    /// fields that the manifest does not name stays.
    ///
    /// # Errors
    /// The API server does not take it.
    pub async fn apply(&self, manifest: &Value) -> Result<Value, Fault> {
        let place = Place::of(manifest)?;
        let params = PatchParams::apply("edict").force();
        let call = Call::custom(place.right("patch"), place.path.clone(), |path| {
            path.patch(&place.name, &params, &Patch::Apply(manifest))
        });
        self.ask(call).await?.ok_or_else(|| place.no_namespace())
    }

    /// Removes the object that the manifest describes, with what it owns; says whether it was there.
    ///
    /// # Errors
    /// The API server does not do it.
    pub async fn remove(&self, manifest: &Value) -> Result<bool, Fault> {
        let place = Place::of(manifest)?;
        let params = DeleteParams::background();
        let call =
            Call::custom(place.right("delete"), place.path.clone(), |path| path.delete(&place.name, &params));
        Ok(self.ask::<Value>(call).await?.is_some())
    }

    /// Waits until a deployment's rollout is complete; after `patience` it says what is in the way.
    ///
    /// # Errors
    /// It does not exist, or the API server does not show it.
    pub async fn rollout(&self, namespace: &str, name: &str, patience: Duration) -> Result<Health, Fault> {
        let target = self.deployment(namespace, name).await?;
        let as_it_is = DeploymentOutcome::new(&target, &target.object, false);
        self.settle_deployment(&as_it_is, patience).await
    }
}
