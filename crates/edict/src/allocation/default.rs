//! The allocator that ships.

use crate::error::ApiError;
use crate::policies::registry::Registry;
use crate::policies::{POLICIES, create, record};
use edict_client::records::Object;
use edict_runtime::bundle::Bundle;
use serde_json::Value;

const RECORD: &str = include_str!("../../../../policies/default_allocator/policy.yaml");
const CODE: &str = include_str!("../../../../policies/default_allocator/code/function.py");

/// Registers the default allocator unless it is there, so that an allocator always is; what users change of it stays.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn register_default(registry: &Registry) -> Result<(), ApiError> {
    let mut payload: Object = serde_saphyr::from_str(RECORD).map_err(ApiError::internal)?;
    payload.insert("code".to_owned(), Value::String(CODE.to_owned()));
    let mut policy = record::from_payload(payload, None)?;
    if POLICIES.find(&registry.store, &policy.policy_rule_uri).await?.is_some() {
        return Ok(());
    }
    let bundle = Bundle::from_source(CODE, &registry.limits).map_err(ApiError::internal)?;
    policy.code_digest = Some(bundle.digest.clone());
    match create::store(registry, &policy, Some(&bundle)).await {
        // Another server on the same database was faster.
        Err(error) if error.code() == POLICIES.exists => Ok(()),
        done => done,
    }
}
