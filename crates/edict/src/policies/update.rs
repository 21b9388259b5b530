//! `PUT /policy/<policy_rule_uri>`

use super::code::{self, Found};
use super::create::{Verify, skipped};
use super::registry::{Registry, store_bundle};
use super::{POLICIES, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, IfMatch, Parameters, Path, Reply};
use crate::store::documents::{changed, invalid_update, refuse_own_fields, to_document};
use crate::store::{Statement, StoreError, Tx};
use axum::extract::State;
use edict_client::records::{Object, Policy, PolicyState};
use edict_filter::Update;
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
    let mut fetched: Option<(String, Found)> = None;
    loop {
        let mut tx = registry.store.begin().await?;
        let document = POLICIES.lock(&mut tx, registry.store.dialect(), &uri).await?;
        if_match.check(document.revision)?;
        let old: Policy = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
        let mut new = record::from_payload(changed(&old, change.as_ref(), &payload)?, Some(&old))?;
        let mut warnings = Vec::new();
        // Operators that leave `code` alone leave the pinned content alone, too.
        if change.is_none() || new.code != old.code {
            let Some((_, found)) = fetched.as_ref().filter(|(code, _)| *code == new.code) else {
                // Others must not wait for a host elsewhere: the record is free meanwhile, and looked at anew then.
                drop(tx);
                let found = code::resolve(registry, &new.code).await?;
                fetched = Some((new.code, found));
                continue;
            };
            warnings.extend(pin(&mut tx, &verify, &old, &mut new, found).await?);
        }
        replace(registry, tx, &old, &new).await?;
        let moved = (new.policy_rule_uri != uri).then(|| new.policy_rule_uri.clone());
        let revision = new.revision;
        return Ok(Data::new(new).revision(revision).moved_to(moved).warnings(warnings));
    }
}

/// Gives the record the code that was found. When a URL that was pinned before cannot be reached, what was pinned
/// stays.
async fn pin(
    tx: &mut Tx,
    verify: &Verify,
    old: &Policy,
    new: &mut Policy,
    found: &Found,
) -> Result<Option<String>, ApiError> {
    match found {
        Found::Bundle(bundle) => {
            new.code_digest = Some(bundle.digest.clone());
            store_bundle(tx, bundle).await?;
            Ok(skipped(bundle))
        }
        Found::Unreachable { url, problem } => {
            if new.code != old.code {
                new.code_digest = None;
            }
            verify.warn(url, problem).map(Some)
        }
    }
}

/// Writes the new record, which `tx` has locked, and takes along what belongs to it.
async fn replace(registry: &Registry, mut tx: Tx, old: &Policy, new: &Policy) -> Result<(), ApiError> {
    let (from, to) = (old.policy_rule_uri.as_str(), new.policy_rule_uri.as_str());
    let document = to_document(new)?;
    let dialect = registry.store.dialect();
    match POLICIES.replace(&mut tx, dialect, (from, old.revision), (to, &document)).await {
        Err(StoreError::Exists) => return Err(POLICIES.taken(to)),
        Ok(false) => return Err(POLICIES.contended(from)),
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
    Ok(())
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
        state.removed_settings.retain(|key| !settings.contains(&key.as_str()));
        state.removed_parameters.retain(|key| !parameters.contains(&key.as_str()));
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
