//! `PUT /policy/<policy_rule_uri>`

use super::code::{self, Found};
use super::create::{Verify, skipped};
use super::registry::{Registry, store_bundle};
use super::{POLICIES, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, IfMatch, Parameters, Reply};
use crate::store::documents::{ATTEMPTS, changed, invalid_update, refuse_own_fields};
use crate::store::{Statement, StoreError, Tx};
use axum::extract::{Path, State};
use edict_client::records::{Object, Policy, PolicyState};
use edict_filter::Update;
use edict_runtime::bundle::Bundle;
use serde_json::Value;

/// Replaces a policy, or changes it with update operators.
#[utoipa::path(
    put,
    path = "/policy/{policy_rule_uri}",
    tag = "policies",
    params(("policy_rule_uri" = String, Path), Verify, IfMatch),
    request_body(content = Object, example = json!({"$set": {"policy_parameters.local_allowlist": ["10.0.0.1"]}})),
    responses((status = 200, body = Reply<Policy>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn update(
    _: Admin,
    State(app): State<App>,
    Path(uri): Path<String>,
    Parameters(verify): Parameters<Verify>,
    if_match: IfMatch,
    Body(payload): Body<Value>,
) -> Result<Data<Policy>, ApiError> {
    let change = Update::parse(&payload).map_err(invalid_update)?;
    refuse_own_fields(change.as_ref(), POLICIES.own_fields)?;
    let registry = &app.registry;
    for _ in 0..ATTEMPTS {
        let (old, revision) = registry.policy(&uri).await?;
        if_match.check(revision)?;
        let mut new = record::from_payload(changed(&old, change.as_ref(), &payload)?, Some(&old))?;
        let mut warnings = Vec::new();
        // Operators that leave `code` alone leave the pinned content alone, too.
        let fetch = change.is_none() || new.code != old.code;
        let bundle =
            if fetch { fetched(registry, &verify, &old, &mut new, &mut warnings).await? } else { None };
        if !apply(registry, (&old, revision), &new, bundle.as_deref()).await? {
            continue;
        }
        let moved = (new.policy_rule_uri != uri).then(|| new.policy_rule_uri.clone());
        let revision = new.revision;
        return Ok(Data::new(new).revision(revision).moved_to(moved).warnings(warnings));
    }
    Err(POLICIES.contended(&uri))
}

/// Fetches the new code. When a URL that was pinned before cannot be reached, what was pinned stays.
async fn fetched(
    registry: &Registry,
    verify: &Verify,
    old: &Policy,
    new: &mut Policy,
    warnings: &mut Vec<String>,
) -> Result<Option<Box<Bundle>>, ApiError> {
    match code::resolve(registry, &new.code).await? {
        Found::Bundle(bundle) => {
            warnings.extend(skipped(&bundle));
            new.code_digest = Some(bundle.digest.clone());
            Ok(Some(bundle))
        }
        Found::Unreachable { url, problem } => {
            warnings.push(verify.warn(&url, &problem)?);
            if new.code != old.code {
                new.code_digest = None;
            }
            Ok(None)
        }
    }
}

/// Writes the change; false when the record has another revision by now.
async fn apply(
    registry: &Registry,
    (old, revision): (&Policy, u64),
    new: &Policy,
    bundle: Option<&Bundle>,
) -> Result<bool, ApiError> {
    let (from, to) = (old.policy_rule_uri.as_str(), new.policy_rule_uri.as_str());
    let document = record::to_document(new)?;
    let mut tx = registry.store.begin().await?;
    if let Some(bundle) = bundle {
        store_bundle(&mut tx, bundle).await?;
    }
    match POLICIES.replace(&mut tx, registry.store.dialect(), (from, revision), (to, &document)).await {
        Err(StoreError::Exists) => return Err(POLICIES.taken(to)),
        Ok(false) => return Ok(false),
        Ok(true) => {}
        Err(error) => return Err(error.into()),
    }
    if from != to {
        for sql in [
            "UPDATE context SET scope = $1 WHERE scope = $2",
            "UPDATE policy_states SET policy_rule_uri = $1 WHERE policy_rule_uri = $2",
        ] {
            tx.execute(Statement::new(sql).bind(to).bind(from)).await?;
        }
    }
    settle_states(&mut tx, old, new).await?;
    tx.commit().await?;
    registry.forget(from);
    registry.forget(to);
    Ok(true)
}

/// The last writer wins: a key of settings or parameters that this update changes no longer has the value that a
/// management command gave it on some executor.
async fn settle_states(tx: &mut Tx, old: &Policy, new: &Policy) -> Result<(), ApiError> {
    let settings = differing(&old.policy_settings, &new.policy_settings);
    let parameters = differing(&old.policy_parameters, &new.policy_parameters);
    if settings.is_empty() && parameters.is_empty() {
        return Ok(());
    }
    let uri = new.policy_rule_uri.as_str();
    tx.lock(uri).await?;
    let sql = "SELECT executor_id, doc FROM policy_states WHERE policy_rule_uri = $1";
    for (executor, doc) in tx.fetch::<(String, String)>(Statement::new(sql).bind(uri)).await? {
        let mut state: PolicyState = serde_json::from_str(&doc).map_err(ApiError::internal)?;
        state.settings.retain(|key, _| !settings.contains(&key.as_str()));
        state.parameters.retain(|key, _| !parameters.contains(&key.as_str()));
        let doc = serde_json::to_string(&state).map_err(ApiError::internal)?;
        let sql = "UPDATE policy_states SET doc = $1 WHERE executor_id = $2 AND policy_rule_uri = $3";
        tx.execute(Statement::new(sql).bind(doc).bind(executor).bind(uri)).await?;
    }
    Ok(())
}

fn differing<'a>(old: &'a Object, new: &'a Object) -> Vec<&'a str> {
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    keys.filter(|key| old.get(*key) != new.get(*key)).map(String::as_str).collect()
}
