//! Objects that Edict makes in a cluster, and how they are told from everybody else's.
//!
//! INVARIANT (ours): what does not carry the marks of this policy system and this executor is never changed or removed,
//! whatever its name is.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value without that field reads as null, and those that are written to are objects"
)]

use crate::apply::Place;
use crate::call::Call;
use crate::{Cluster, Fault};
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The label with the executor's key.
pub(crate) const EXECUTOR_LABEL: &str = "edict.dev/executor";
/// The label with the policy system's own name.
pub(crate) const SYSTEM_LABEL: &str = "edict.dev/system";
/// The label that lets pods, and those of namespaces that have it, to a policy system that runs in a cluster itself: see
/// deploy/kubernetes/base/network-policy.yaml.
const CLIENT_LABEL: &str = "edict.dev/client";
/// The label that says what an object is part of.
pub(crate) const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// As whom the API server notes fields that Edict sets.
const MANAGER: &str = "edict";

/// Whose objects: those of one executor of one policy system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Tells one policy system from another: letters, digits and dashes, 63 at most.
    pub system: String,
    /// The executor's id, 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub executor_id: String,
}

impl Mark {
    /// The executor's id as a label and as part of names.
    #[must_use]
    pub fn key(&self) -> String {
        object_name(&self.executor_id)
    }

    /// What finds all objects of this executor, or those of one component.
    #[must_use]
    pub fn selector(&self, component: Option<&str>) -> String {
        let mut selector = format!("{SYSTEM_LABEL}={},{EXECUTOR_LABEL}={}", self.system, self.key());
        if let Some(component) = component {
            selector = format!("{selector},{COMPONENT_LABEL}={component}");
        }
        selector
    }

    /// The labels of an object of this executor.
    pub(crate) fn labels(&self, component: &str) -> Map<String, Value> {
        let labels = json!({
            "app.kubernetes.io/name": "edict",
            "app.kubernetes.io/managed-by": "edict",
            COMPONENT_LABEL: component,
            EXECUTOR_LABEL: self.key(),
            SYSTEM_LABEL: self.system,
            CLIENT_LABEL: "true",
        });
        labels.as_object().cloned().unwrap_or_default()
    }

    /// Whether an object carries the marks.
    pub(crate) fn is_on(&self, object: &Value) -> bool {
        let label = |name: &str| object.pointer("/metadata/labels")?.get(name)?.as_str();
        label(SYSTEM_LABEL) == Some(&self.system) && label(EXECUTOR_LABEL) == Some(&self.key())
    }
}

/// A legal name for an object, different for different texts: the text's own letters, and a digest, since `funcA` and `funca`
/// are two. 51 characters at most, which leaves room for a prefix within the 63 of a label.
pub(crate) fn object_name(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let legal = lower.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    let legal: String = legal.take(40).collect();
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    match legal.trim_matches('-') {
        "" => format!("x-{digest}"),
        legal => format!("{legal}-{digest}"),
    }
}

impl Cluster {
    /// The object of a manifest as it is, whosever it is; None if there is none.
    pub(crate) async fn find(&self, manifest: &Value) -> Result<Option<Value>, Fault> {
        let place = Place::of(manifest)?;
        let call = Call::custom(place.right("get"), place.path.clone(), |path| {
            path.get(&place.name, &GetParams::default())
        });
        self.ask(call).await
    }

    /// Makes the object that a manifest describes, unless it is there; returns it as it is then. The marks of `mark` are added
    /// to its labels.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when an object of that name exists and is not ours, or is going; then nothing has been done.
    pub(crate) async fn make(
        &self,
        mark: &Mark,
        component: &str,
        mut manifest: Value,
    ) -> Result<Value, Fault> {
        mark.put_on(&mut manifest, component);
        let place = Place::of(&manifest)?;
        loop {
            if let Some(made) = self.create(&place, &manifest).await? {
                return Ok(made);
            }
            if let Some(found) = self.find(&manifest).await? {
                mark.claim(&place, &found)?;
                return Ok(found);
            }
        }
    }

    /// Makes the object that a manifest describes, or brings ours to it; returns it as it is then. The marks of `mark` are
    /// added to its labels. What others set in fields that the manifest does not name stays.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when an object of that name exists and is not ours, or is going; then nothing has been done.
    pub(crate) async fn put(
        &self,
        mark: &Mark,
        component: &str,
        mut manifest: Value,
    ) -> Result<Value, Fault> {
        mark.put_on(&mut manifest, component);
        let place = Place::of(&manifest)?;
        loop {
            let Some(found) = self.find(&manifest).await? else {
                match self.create(&place, &manifest).await? {
                    Some(made) => return Ok(made),
                    // Somebody was faster: whose is it?
                    None => continue,
                }
            };
            mark.claim(&place, &found)?;
            if !self.take_over_fields(&place, &found).await? {
                continue;
            }
            // With its uid, so that nothing is made anew, or taken from others, if it goes in between.
            manifest["metadata"]["uid"] = found["metadata"]["uid"].clone();
            let params = PatchParams::apply(MANAGER).force();
            let call = Call::custom(place.right("patch"), place.path.clone(), |path| {
                path.patch(&place.name, &params, &Patch::Apply(&manifest))
            });
            return self.ask(call).await?.ok_or_else(|| place.no_namespace());
        }
    }

    /// None: an object of that name exists.
    async fn create(&self, place: &Place, manifest: &Value) -> Result<Option<Value>, Fault> {
        let body = serde_json::to_vec(manifest).unwrap_or_default();
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let call = Call::custom(place.right("create"), place.path.clone(), |path| path.create(&params, body));
        match self.ask(call).await {
            Err(Fault::Conflict { why }) if why.contains("already exists") => Ok(None),
            made => made?.map(Some).ok_or_else(|| place.no_namespace()),
        }
    }

    /// Lets an apply drop fields that it names no more: those that a create has set are no apply's to begin with. False: the
    /// object has changed in between; an apply would then be too early, since after it nobody asks again.
    async fn take_over_fields(&self, place: &Place, found: &Value) -> Result<bool, Fault> {
        let entries = found["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = |operation: &str| {
            entries.iter().position(|entry| {
                entry["manager"] == MANAGER
                    && entry["operation"] == operation
                    && entry.get("subresource").is_none()
            })
        };
        let (Some(made), None) = (ours("Update"), ours("Apply")) else { return Ok(true) };
        let patch = json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]},
            {"op": "replace", "path": format!("/metadata/managedFields/{made}/operation"), "value": "Apply"},
        ]);
        let patch =
            serde_json::from_value(patch).map_err(|error| Fault::Refused { message: error.to_string() })?;
        let call = Call::custom(place.right("patch"), place.path.clone(), |path| {
            path.patch(&place.name, &PatchParams::default(), &Patch::<Value>::Json(patch))
        });
        match self.ask::<Value>(call).await {
            Ok(_) => Ok(true),
            Err(Fault::Conflict { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Removes the object of a manifest, with what it owns, if it is ours; says whether it was there.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when an object of that name exists and is not ours.
    pub(crate) async fn take_away(&self, mark: &Mark, manifest: &Value) -> Result<bool, Fault> {
        let place = Place::of(manifest)?;
        let Some(found) = self.find(manifest).await? else { return Ok(false) };
        if !mark.is_on(&found) {
            return Err(place.not_ours());
        }
        let uid = found["metadata"]["uid"].as_str().map(str::to_owned);
        let mut params = DeleteParams::background();
        params.preconditions = Some(Preconditions { uid, resource_version: None });
        let call =
            Call::custom(place.right("delete"), place.path.clone(), |path| path.delete(&place.name, &params));
        Ok(self.ask::<Value>(call).await?.is_some())
    }
}

impl Mark {
    fn put_on(&self, manifest: &mut Value, component: &str) {
        let labels = &mut manifest["metadata"]["labels"];
        let mut all = self.labels(component);
        all.extend(labels.as_object().cloned().unwrap_or_default());
        *labels = Value::Object(all);
    }

    /// Refuses an object that is not ours, or is going.
    fn claim(&self, place: &Place, found: &Value) -> Result<(), Fault> {
        if !self.is_on(found) {
            return Err(place.not_ours());
        }
        if found["metadata"]["deletionTimestamp"].is_string() {
            return Err(Fault::Conflict { why: format!("{place} is being deleted") });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;
    use proptest::prelude::*;

    #[test]
    fn names_differ_where_only_the_case_does() {
        assert_ne!(object_name("funcA"), object_name("funca"));
        assert_ne!(object_name("a_b"), object_name("a.b"));
    }

    proptest! {
        #[test]
        fn every_id_has_a_legal_name(id in "[A-Za-z0-9._-]{1,128}") {
            let name = object_name(&id);
            prop_assert!(names::is_label(&name) && name.len() <= 51, "{name}");
        }
    }
}
