//! Edict.

use crate::corpus::{Policy, ROLE};
use edict_engine::{Answers, PolicySet, Request, Timestamp};
use serde_json::{Map, Value, json};
use std::error::Error;

pub struct Engine<'r> {
    set: PolicySet,
    texts: &'r [String],
    ready: Vec<Request<'r>>,
}

impl<'r> Engine<'r> {
    pub fn new(policies: &[Policy], texts: &'r [String]) -> Result<Self, Box<dyn Error>> {
        let policies = policies.iter().map(|policy| {
            let metadata: Map<String, Value> =
                policy.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            edict_engine::Policy::from_value(&json!({
                "name": policy.name, "type": "self_healing", "effect": if policy.deny { "deny" } else { "allow" },
                "priority": policy.priority, "conditions": {"role": ROLE, "metadata": metadata},
                "actions": [policy.action], "resources": [policy.resources],
            }))
        });
        let policies = policies.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{error:?}"))?;
        let set = PolicySet::compile(policies).map_err(|errors| format!("{errors:?}"))?;
        let ready = texts.iter().map(|text| Request::from_json(text.as_bytes())).collect::<Result<_, _>>();
        Ok(Self { set, texts, ready: ready.map_err(|error| format!("{error:?}"))? })
    }

    pub fn decide(&self, number: usize) -> bool {
        self.allows(&self.ready[number])
    }

    pub fn from_json(&self, number: usize) -> bool {
        Request::from_json(self.texts[number].as_bytes()).is_ok_and(|request| self.allows(&request))
    }

    fn allows(&self, request: &Request<'_>) -> bool {
        self.set.evaluate(request, Timestamp::UNIX_EPOCH, &Answers::default()).allowed
    }
}
