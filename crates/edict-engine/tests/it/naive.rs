//! A second evaluator, written from the documentation and as plainly as possible: no index, no order of checks, wildcards by
//! trying everything. It knows equality and `$gte` of metadata only, which is what the random policies use.

use std::{collections::BTreeMap, net::IpAddr};

use edict_engine::{Effect, Policy, Timestamp};
use serde_json::Value;

/// What a decision says, without the wording.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) allowed: bool,
    pub(crate) applied: Vec<String>,
    /// Policy and condition.
    pub(crate) errors: Vec<(String, String)>,
    pub(crate) questions: Vec<String>,
}

pub(crate) fn evaluate(
    policies: &[Policy],
    request: &Value,
    now: Timestamp,
    answers: &BTreeMap<String, Result<bool, String>>,
) -> Outcome {
    let mut ordered: Vec<&Policy> = policies.iter().collect();
    ordered.sort_by_key(|policy| (1000 - policy.priority, policy.name.clone()));
    let mut outcome = Outcome { allowed: false, applied: vec![], errors: vec![], questions: vec![] };
    let mut denied = false;
    for policy in ordered {
        let any = |patterns: &[String], field: &str| {
            let text: Vec<char> = request[field].as_str().unwrap().chars().collect();
            patterns.iter().any(|pattern| wild(&pattern.chars().collect::<Vec<_>>(), &text))
        };
        let of_type = policy.kind == "*" || policy.kind == request["type"].as_str().unwrap();
        if !policy.is_active
            || !of_type
            || !any(&policy.actions, "action")
            || !any(&policy.resources, "resource")
        {
            continue;
        }
        let context = &request["context"];
        let but_rules: Vec<_> =
            policy.conditions.iter().filter(|(name, _)| *name != "policyRuleUri").collect();
        if but_rules.iter().any(|(name, wanted)| holds(name, wanted, context, now, answers) == Some(false)) {
            continue;
        }
        if let Some(uri) = policy.conditions.get("policyRuleUri") {
            outcome.questions.push(uri.as_str().unwrap().to_owned());
        }
        let all: Vec<_> = policy
            .conditions
            .iter()
            .map(|(name, wanted)| (name, holds(name, wanted, context, now, answers)))
            .collect();
        if all.iter().any(|(_, holds)| *holds == Some(false)) {
            continue;
        }
        let unknown: Vec<_> = all.iter().filter(|(_, holds)| holds.is_none()).collect();
        outcome.errors.extend(unknown.iter().map(|(name, _)| (policy.name.clone(), (*name).clone())));
        match policy.effect {
            Effect::Deny => denied = true,
            Effect::Allow if unknown.is_empty() => outcome.allowed = true,
            Effect::Allow => continue,
        }
        outcome.applied.push(policy.name.clone());
    }
    outcome.allowed &= !denied;
    outcome.questions.sort();
    outcome.questions.dedup();
    outcome
}

/// Exponential on purpose: it is the definition.
fn wild(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([], _) => false,
        (['*', rest @ ..], _) => (0..=text.len()).any(|skipped| wild(rest, &text[skipped..])),
        (['?', rest @ ..], [_, text @ ..]) => wild(rest, text),
        ([literal, rest @ ..], [first, text @ ..]) => literal == first && wild(rest, text),
        (_, []) => false,
    }
}

fn holds(
    name: &str,
    wanted: &Value,
    context: &Value,
    now: Timestamp,
    answers: &BTreeMap<String, Result<bool, String>>,
) -> Option<bool> {
    let one_of =
        |text: &str| wanted == text || wanted.as_array().is_some_and(|list| list.iter().any(|it| it == text));
    match name {
        "role" | "roles" => {
            let several = context["roles"].as_array().cloned().unwrap_or_default();
            let all = several.iter().chain([&context["role"]]);
            Some(all.filter_map(Value::as_str).any(one_of))
        }
        "userId" => Some(context["userId"].as_str().is_some_and(one_of)),
        "ipRange" => {
            let address: IpAddr = context["ipAddress"].as_str()?.parse().ok()?;
            Some(in_network(address, wanted.as_str().unwrap()))
        }
        "timeRange" => {
            let [from, until]: [Timestamp; 2] =
                ["start", "end"].map(|edge| wanted[edge].as_str().unwrap().parse().unwrap());
            Some(from <= now && now < until)
        }
        "metadata" => Some(wanted.as_object().unwrap().iter().all(|(key, wanted)| {
            let found = &context["metadata"][key];
            match wanted.get("$gte") {
                Some(least) => found.as_i64().is_some_and(|found| found >= least.as_i64().unwrap()),
                None => found == wanted,
            }
        })),
        "policyRuleUri" => answers.get(wanted.as_str().unwrap())?.clone().ok(),
        other => panic!("the naive evaluator does not know `{other}`"),
    }
}

/// By comparing bits as text.
fn in_network(address: IpAddr, network: &str) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|byte| format!("{byte:08b}")).collect::<String>(),
        IpAddr::V6(v6) => v6.octets().iter().map(|byte| format!("{byte:08b}")).collect::<String>(),
    };
    let (base, length) = network.split_once('/').unwrap();
    let (address, base) = (bits(address), bits(base.parse().unwrap()));
    address.len() == base.len() && address[..length.parse().unwrap()] == base[..length.parse().unwrap()]
}
