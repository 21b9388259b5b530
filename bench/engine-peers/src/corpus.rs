//! Policies and requests, as in `bench/decisions.py` and the example of `edict-engine`.

use serde_json::{Value, json};

pub const ACTIONS: [&str; 5] =
    ["restart_pod", "scale_deployment", "rollback_deployment", "drain_node", "clear_cache"];
const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];

/// A policy, of which each engine makes its own kind: for one role, one action, resources with a prefix, and fields of
/// the metadata that must have these values.
pub struct Policy {
    pub name: String,
    pub deny: bool,
    pub priority: usize,
    pub action: &'static str,
    pub resources: String,
    pub metadata: Vec<(&'static str, Value)>,
}

pub const ROLE: &str = "service";

/// Nine of ten allow what is severe and automated, every tenth denies while frozen.
pub fn policies(size: usize) -> Vec<Policy> {
    let policy = |number: usize| {
        let deny = number % 10 == 9;
        Policy {
            name: format!("gen-{number}"),
            deny,
            priority: 100 + number % 100,
            action: ACTIONS[number % ACTIONS.len()],
            resources: format!("pod:ns-{}/*", number / 5),
            metadata: match deny {
                true => vec![("freeze", json!(true))],
                false => vec![("severity", json!("high")), ("automated", json!(true))],
            },
        }
    };
    (0..size).map(policy).collect()
}

/// 400 requests about four namespaces, which exist at every size, as text.
pub fn requests() -> Vec<String> {
    let request = |number: usize| {
        json!({
            "action": ACTIONS[number % 5],
            "resource": format!("pod:ns-{}/api-{number}", number / 5 % 4),
            "type": "self_healing",
            "context": {
                "userId": format!("u{number}"),
                "role": ROLE,
                "metadata": {
                    "severity": SEVERITIES[number / 20 % 4], "automated": true, "freeze": number / 80 % 5 == 4,
                },
            },
        })
        .to_string()
    };
    (0..400).map(request).collect()
}
