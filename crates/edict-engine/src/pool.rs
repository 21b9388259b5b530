//! Parts that many policies have in common, compiled once and kept once.
//!
//! Policies repeat each other: the same roles, actions and conditions over and over. A request then meets parts that the
//! one before has met as well, in the processor's caches, instead of a copy of each for every policy.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use crate::{
    condition::{self, Condition, Test},
    fault::Fault,
    pattern::Pattern,
};

#[derive(Default)]
pub(crate) struct Pool {
    texts: FxHashMap<String, Arc<str>>,
    patterns: FxHashMap<Vec<String>, Arc<[Pattern]>>,
    /// By their JSON, in which keys are sorted.
    conditions: FxHashMap<String, (Arc<[Condition]>, Vec<Fault>)>,
}

impl Pool {
    pub(crate) fn text(&mut self, text: String) -> Arc<str> {
        let make = |text: &String| Arc::from(text.as_str());
        share(&mut self.texts, text, make)
    }

    pub(crate) fn patterns(&mut self, patterns: Vec<String>) -> Arc<[Pattern]> {
        let make = |patterns: &Vec<String>| patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
        share(&mut self.patterns, patterns, make)
    }

    /// The conditions and what is wrong with them. One that cannot be read is among them all the same, as one that
    /// cannot be evaluated (INVARIANT fail closed).
    pub(crate) fn conditions(&mut self, conditions: &Map<String, Value>) -> (Arc<[Condition]>, Vec<Fault>) {
        let key = serde_json::to_string(conditions).unwrap_or_default();
        share(&mut self.conditions, key, |_| {
            let mut compiled = condition::compile(conditions);
            compiled.conditions.extend(compiled.faults.iter().map(|fault| {
                let field = fault.field.strip_prefix("conditions.").unwrap_or(&fault.field);
                Condition { field: field.into(), test: Test::Unreadable(fault.message.as_str().into()) }
            }));
            (compiled.conditions.into(), compiled.faults)
        })
    }
}

fn share<K: std::hash::Hash + Eq, V: Clone>(
    known: &mut FxHashMap<K, V>,
    key: K,
    make: impl Fn(&K) -> V,
) -> V {
    if let Some(value) = known.get(&key) {
        return value.clone();
    }
    let value = make(&key);
    known.insert(key, value.clone());
    value
}
