//! The digest that an object carries of the manifest which it was brought to, so that what is as it should be is left alone.

use super::annotation;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The annotation that holds it.
pub(super) const MANIFEST: &str = "edict.dev/manifest";

/// A manifest with a digest of itself.
pub(super) fn stamped(mut manifest: Value) -> Value {
    let digest = Sha256::digest(manifest.to_string().as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    manifest["metadata"]["annotations"][MANIFEST] = json!(digest);
    manifest
}

/// The digest on an object.
pub(super) fn stamp(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"].get(MANIFEST)?.as_str()
}

/// Whether an object stays, and is as a manifest of this kind last made it.
pub(super) fn is_current(there: Option<&ObjectMeta>, manifest: &Value) -> bool {
    there.is_some_and(|there| {
        there.deletion_timestamp.is_none() && annotation(there, MANIFEST) == stamp(manifest)
    })
}
