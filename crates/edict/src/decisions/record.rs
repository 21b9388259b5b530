//! What makes a decision policy valid.

use super::Decisions;
use crate::error::{ApiError, Code};
use crate::http::document;
use crate::policies::POLICIES;
use edict_client::records::{self, DecisionPolicy, Object, PolicySource};
use edict_engine::{Effect, Policy, PolicyError};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Fields that only the server sets.
pub(super) const OWN_FIELDS: [&str; 7] =
    ["id", "source", "file", "createdAt", "updatedAt", "revision", "error"];

/// Reads a payload: known fields only, all of them checked. What only the server sets is ignored, so that a record can
/// be sent back as it was read.
///
/// # Errors
/// 400 for unknown fields; 422 with all other faults.
pub(super) fn policy(mut payload: Object) -> Result<Policy, ApiError> {
    for field in OWN_FIELDS {
        payload.remove(field);
    }
    let payload: Object = document(payload, DecisionPolicy::known_fields())?;
    let policy = Policy::from_value(&Value::Object(payload)).map_err(|error| invalid("", &error))?;
    policy.check().map_err(|error| invalid("", &error))?;
    Ok(policy)
}

/// The error for a policy with faults; `place` says which one it is, where there are several.
pub(super) fn invalid(place: &str, error: &PolicyError) -> ApiError {
    ApiError::new(Code::InvalidDecisionPolicy, format!("{place}{}", listed(error)))
        .details(json!({"faults": error.faults}))
}

/// All faults in one line.
pub(crate) fn listed(error: &PolicyError) -> String {
    error.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A new record.
pub(super) fn new(policy: Policy) -> DecisionPolicy {
    let now = crate::now();
    DecisionPolicy {
        id: uuid::Uuid::now_v7().to_string(),
        source: PolicySource::Api,
        created_at: Some(now.clone()),
        updated_at: Some(now),
        revision: 1,
        ..bare(policy)
    }
}

/// A record that takes the place of another one.
pub(super) fn next(policy: Policy, id: &str, created_at: Option<String>, revision: u64) -> DecisionPolicy {
    DecisionPolicy { id: id.to_owned(), created_at, revision: revision + 1, ..new(policy) }
}

/// A policy without what only the server sets.
pub(super) fn bare(policy: Policy) -> DecisionPolicy {
    DecisionPolicy {
        id: String::new(),
        name: policy.name,
        description: policy.description,
        kind: policy.kind,
        effect: match policy.effect {
            Effect::Allow => records::Effect::Allow,
            Effect::Deny => records::Effect::Deny,
        },
        priority: policy.priority,
        conditions: policy.conditions,
        actions: policy.actions,
        resources: policy.resources,
        is_active: policy.is_active,
        source: PolicySource::Api,
        file: None,
        created_at: None,
        updated_at: None,
        revision: 0,
        error: None,
    }
}

/// The error for a name that another policy has.
pub(super) fn taken(name: &str) -> ApiError {
    let name = crate::shorten(name);
    ApiError::new(
        Code::DecisionPolicyExists,
        format!(
            "there is a decision policy `{name}` already: change that one with PATCH, or choose another name"
        ),
    )
}

impl Decisions {
    /// Refuses a name that a policy of the folder has.
    ///
    /// # Errors
    /// 409.
    pub(super) fn check_free(&self, name: &str) -> Result<(), ApiError> {
        match self.in_force().folder.named(name) {
            Some(filed) => Err(ApiError::new(
                Code::DecisionPolicyExists,
                format!(
                    "there is a decision policy `{}` in the file `{}` already: change it there, or choose another name",
                    crate::shorten(name),
                    filed.file
                ),
            )),
            None => Ok(()),
        }
    }

    /// Warns of Python policies that are not registered: an allow that asks one does not apply, a deny denies.
    pub(super) async fn warnings<'p>(
        &self,
        policies: impl Iterator<Item = &'p DecisionPolicy>,
    ) -> Result<Vec<String>, ApiError> {
        let uris = policies.filter_map(|policy| policy.conditions.get("policyRuleUri")?.as_str());
        let mut warnings = Vec::new();
        for uri in uris.collect::<BTreeSet<_>>() {
            if POLICIES.find(&self.store, uri).await?.is_none() {
                warnings.push(format!(
                    "no policy `{}` is registered yet: until it is, a deny with this condition denies and an allow does \
                     not apply",
                    crate::shorten(uri)
                ));
            }
        }
        Ok(warnings)
    }
}
