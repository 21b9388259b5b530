//! Single pods: their logs, and taking one away.

use super::{PODS, Workloads};
use crate::apply::Place;
use crate::call::Call;
use crate::{Fault, Right};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{DeleteParams, LogParams, Preconditions};
use serde_json::Value;

/// What of a log is kept, from its end, in bytes.
const LOG: usize = 4 << 20;

impl Workloads {
    /// Deletes a pod of ours, this one and none of the same name; its controller makes another. One that is gone is fine.
    ///
    /// # Errors
    /// It is not ours, or the cluster does not do it.
    pub async fn delete_pod(&self, name: &str, uid: &str) -> Result<(), Fault> {
        let manifest = self.reference(PODS, name);
        let place = Place::of(&manifest)?;
        let Some(found) = self.cluster.find(&manifest).await? else { return Ok(()) };
        if found["metadata"]["uid"] != uid {
            return Ok(());
        }
        if !self.mark.is_on(&found) {
            return Err(place.not_ours());
        }
        let this = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
        let call = Call::custom(place.right("delete"), place.path.clone(), |path| path.delete(name, &params));
        match self.cluster.ask::<Value>(call).await {
            // It went, and another one came, in between.
            Ok(_) | Err(Fault::Conflict { .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// What a pod has printed, or the end of it; None when there is no such pod of ours, or it has not run yet.
    ///
    /// # Errors
    /// The cluster does not tell: its node may be away.
    pub(super) async fn log(&self, name: &str) -> Result<Option<String>, Fault> {
        crate::names::check("pod", name, crate::names::is_subdomain)?;
        if self.pods.get(name).is_none() {
            return Ok(None);
        }
        let right = Right { verb: "get", resource: "pods/log".to_owned(), namespace: self.namespace.clone() };
        let path = Pod::url_path(&(), Some(&self.namespace));
        let call = Call::custom(right, path, |path| path.logs(name, &LogParams::default()));
        match self.cluster.text(call, LOG).await {
            // "container … is waiting to start".
            Err(Fault::Refused { .. }) => Ok(None),
            log => log,
        }
    }
}
