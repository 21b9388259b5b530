//! What comes out of an evaluation, and the answers of Python policies that go into it.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;

/// The outcome for one request. Names are borrowed from the set that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision<'s> {
    /// Whether the action may be done.
    pub allowed: bool,
    /// One sentence: which policy decided, or that none allows it.
    pub reason: Cow<'s, str>,
    /// Every policy that applied, allows and denies, the highest priority first, then by name.
    pub applied_policies: Vec<&'s str>,
    /// What could not be evaluated, in the same order; left out of JSON when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<EvaluationError<'s>>,
}

/// A condition that could not be evaluated, while no other condition of its policy ruled the policy out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvaluationError<'s> {
    /// The policy's name.
    pub policy: &'s str,
    /// The condition, `ipRange` for instance.
    pub field: &'s str,
    /// Why, and what is missing.
    pub message: String,
}

/// What Python policies said about one request, by their URI. Get the URIs from [`crate::PolicySet::questions`].
#[derive(Debug, Clone, Default)]
pub struct Answers {
    given: BTreeMap<String, Result<bool, String>>,
}

impl Answers {
    /// Keeps what the policy said, or why it could not be asked.
    pub fn insert(&mut self, policy_rule_uri: impl Into<String>, allowed: Result<bool, String>) {
        self.given.insert(policy_rule_uri.into(), allowed);
    }

    /// A question nobody asked is as open as one that failed (INVARIANT fail closed).
    pub(crate) fn get(&self, uri: &str) -> Result<bool, String> {
        match self.given.get(uri) {
            Some(Ok(allowed)) => Ok(*allowed),
            Some(Err(why)) => Err(format!("`{uri}` gave no answer: {why}")),
            None => Err(format!("`{uri}` was not asked")),
        }
    }
}
