//! Secrets: what pods get that nobody else may read. They are looked at one by one, since whoever may list secrets may read them
//! all.

use super::stamp::stamp;
use super::{Workloads, lock};
use crate::Fault;
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a secret is believed to be as it was.
const BELIEVED: Duration = Duration::from_secs(60);

/// What a secret holds, as it is written.
pub(super) fn data(secret: &BTreeMap<String, String>) -> Value {
    let data = secret.iter().map(|(key, value)| (key.clone(), json!(ByteString(value.clone().into_bytes()))));
    Value::Object(data.collect())
}

impl Workloads {
    /// Brings a secret to what this stamped manifest says, unless it is believed to be so.
    pub(super) async fn put_secret(&self, component: &str, manifest: Value) -> Result<(), Fault> {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let wanted = stamp(&manifest).unwrap_or_default().to_owned();
        let believed = lock(&self.secrets)
            .get(&name)
            .is_some_and(|(stamp, at)| *stamp == wanted && at.elapsed() < BELIEVED);
        if believed {
            return Ok(());
        }
        let found = self.cluster.find(&manifest).await?;
        let found = found.filter(|found| self.mark.is_on(found) && stamp(found) == Some(&wanted));
        if found.is_none() {
            self.cluster.put(&self.mark, component, manifest).await?;
        }
        lock(&self.secrets).insert(name, (wanted, Instant::now()));
        Ok(())
    }

    /// The secret is looked at again before anything is believed of it.
    pub(super) fn doubt_secret(&self, name: &str) {
        lock(&self.secrets).remove(name);
    }
}
