//! `POST /policy`

use super::code::{self, Found};
use super::registry::{Registry, store_bundle};
use super::{POLICIES, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Parameters, Reply};
use crate::store::StoreError;
use crate::store::documents::to_document;
use axum::extract::State;
use edict_client::records::{Object, Policy};
use edict_runtime::bundle::Bundle;
use serde::Deserialize;
use utoipa::IntoParams;

/// How strict to be.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    /// Refuse code at a URL that cannot be reached now, instead of fetching it on the first run.
    #[serde(default)]
    verify: bool,
}

impl Verify {
    /// What to tell about code that cannot be reached: a warning, or the refusal that was asked for.
    pub(crate) fn warn(&self, url: &str, problem: &str) -> Result<String, ApiError> {
        if self.verify {
            return Err(code::unreachable(url, problem));
        }
        Ok(format!(
            "the code at `{}` cannot be reached yet ({problem}); the first run will fetch and pin it",
            crate::shorten(url)
        ))
    }
}

/// Registers a policy.
#[utoipa::path(
    post,
    path = "/policy",
    tag = "policies",
    params(Verify),
    request_body = Policy,
    responses((status = 200, body = Reply<Policy>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create(
    _: Admin,
    State(app): State<App>,
    Parameters(verify): Parameters<Verify>,
    Body(payload): Body<Object>,
) -> Result<Data<Policy>, ApiError> {
    let mut policy = record::from_payload(payload, None)?;
    let registry = &app.registry;
    let mut warnings = Vec::new();
    let bundle = match code::resolve(registry, &policy.code).await? {
        Found::Bundle(bundle) => {
            warnings.extend(skipped(&bundle));
            policy.code_digest = Some(bundle.digest.clone());
            Some(bundle)
        }
        Found::Unreachable { url, problem } => {
            warnings.push(verify.warn(&url, &problem)?);
            None
        }
    };
    store(registry, &policy, bundle.as_deref()).await?;
    Ok(Data::new(policy).revision(1).warnings(warnings))
}

/// Stores a checked record with its code.
///
/// # Errors
/// 409 when there is one with this URI.
pub(crate) async fn store(
    registry: &Registry,
    policy: &Policy,
    bundle: Option<&Bundle>,
) -> Result<(), ApiError> {
    let uri = &policy.policy_rule_uri;
    let mut tx = registry.store.begin().await?;
    if let Some(bundle) = bundle {
        store_bundle(&mut tx, bundle).await?;
    }
    match POLICIES.insert(&mut tx, registry.store.dialect(), uri, &to_document(policy)?).await {
        Err(StoreError::Exists) => return Err(POLICIES.taken(uri)),
        done => done?,
    }
    tx.commit().await?;
    registry.forget(uri);
    Ok(())
}

/// Requirements that name modules of the standard library are not installed, which the author should know.
pub(crate) fn skipped(bundle: &Bundle) -> Option<String> {
    let skipped = &bundle.requirements.as_ref()?.skipped;
    (!skipped.is_empty()).then(|| {
        format!(
            "requirements.txt names modules of Python's standard library, which are skipped: {}",
            skipped.join(", ")
        )
    })
}
