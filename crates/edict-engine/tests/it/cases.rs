//! The cases in `tests/cases`: policies, a request and a time, and the whole decision with reason and errors.

use std::{collections::BTreeMap, fs, path::Path};

use edict_engine::{Answers, Policy, PolicySet, Request, Timestamp};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decisions {
    /// When a case does not say otherwise.
    now: Timestamp,
    policies: Vec<Policy>,
    /// Policies that this version cannot read: their errors, as the lenient compilation lists them.
    #[serde(default)]
    unreadable: Vec<String>,
    cases: Vec<DecisionCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionCase {
    name: String,
    request: Value,
    now: Option<Timestamp>,
    /// What Python policies answer: true, false, or why they could not.
    #[serde(default)]
    answers: BTreeMap<String, Value>,
    #[serde(default)]
    questions: Vec<String>,
    allowed: bool,
    reason: String,
    #[serde(default)]
    applied: Vec<String>,
    /// `policy, field: message`
    #[serde(default)]
    errors: Vec<String>,
    /// `policy, stage: why`, for the policies that it names.
    #[serde(default)]
    considered: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedPolicy {
    name: String,
    policy: Value,
    faults: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedRequest {
    name: String,
    text: String,
    field: Option<String>,
    message: String,
}

fn load<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name)
}

fn answers(given: &BTreeMap<String, Value>) -> Answers {
    let mut answers = Answers::default();
    for (uri, answer) in given {
        let answer = match answer {
            Value::Bool(allowed) => Ok(*allowed),
            why => Err(why.as_str().unwrap().to_owned()),
        };
        answers.insert(uri, answer);
    }
    answers
}

fn check(set: &PolicySet, case: &DecisionCase, now: Timestamp) {
    let text = case.request.to_string();
    let request = Request::from_json(text.as_bytes()).unwrap();
    assert_eq!(set.questions(&request, now), case.questions);
    let answers = answers(&case.answers);
    let explanation = set.explain(&request, now, &answers);
    let decision = set.evaluate(&request, now, &answers);
    assert_eq!(decision, explanation.decision);
    let errors: Vec<_> = decision
        .errors
        .iter()
        .map(|error| format!("{}, {}: {}", error.policy, error.field, error.message))
        .collect();
    assert_eq!(
        json!([decision.allowed, decision.reason, decision.applied_policies, errors]),
        json!([case.allowed, case.reason, case.applied, case.errors]),
    );
    let applied: Vec<_> = explanation.considered.iter().filter(|policy| policy.applied).collect();
    assert_eq!(applied.len(), decision.applied_policies.len());
    assert!(applied.iter().all(|policy| decision.applied_policies.contains(&policy.policy)));
    for expected in &case.considered {
        let line = |policy: &edict_engine::Considered<'_>| {
            let stage = serde_json::to_value(policy.stage).unwrap();
            format!("{}, {}: {}", policy.policy, stage.as_str().unwrap(), policy.why)
        };
        let lines: Vec<_> = explanation.considered.iter().map(line).collect();
        assert!(lines.contains(expected), "no `{expected}` in {lines:#?}");
    }
}

#[test]
fn decisions() {
    let mut files: Vec<_> =
        fs::read_dir(folder("decisions")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let file: Decisions = load(&path);
        let (set, unreadable) = PolicySet::compile_stored(file.policies.clone()).unwrap();
        let unreadable: Vec<_> = unreadable.iter().map(ToString::to_string).collect();
        assert_eq!(unreadable, file.unreadable, "{}", path.display());
        assert_eq!(PolicySet::compile(file.policies).is_ok(), unreadable.is_empty(), "{}", path.display());
        for case in &file.cases {
            // Printed when an assertion below fails.
            println!("{}: {}", path.display(), case.name);
            check(&set, case, case.now.unwrap_or(file.now));
        }
    }
}

#[test]
fn refused_policies() {
    for case in load::<Vec<RefusedPolicy>>(&folder("refused_policies.yaml")) {
        let error = Policy::from_value(&case.policy).and_then(|policy| policy.check()).unwrap_err();
        let faults: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, case.faults, "{}", case.name);
    }
}

#[test]
fn refused_requests() {
    for case in load::<Vec<RefusedRequest>>(&folder("refused_requests.yaml")) {
        let error = Request::from_json(case.text.as_bytes()).unwrap_err();
        assert_eq!((error.field, error.message), (case.field, case.message), "{}", case.name);
    }
}

#[test]
fn every_broken_policy_names_itself() {
    let policy = |name: &str, conditions: Value| {
        Policy::from_value(&json!({
            "name": name, "type": "t", "effect": "allow", "actions": ["a"], "resources": ["r"], "conditions": conditions,
        }))
        .unwrap()
    };
    let errors = PolicySet::compile(vec![
        policy("good", json!({})),
        policy("bad", json!({"ipRange": "10.0.0.0/33", "role": []})),
        policy("good", json!({})),
        policy("", json!({})),
    ])
    .unwrap_err();
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "policy `good`: `name` is `good`, like that of an earlier policy",
            "policy `#4`: `name` has 0 characters; it takes 1 to 200",
            "policy `bad`: `conditions.ipRange` is `10.0.0.0/33`; it takes a network such as `10.0.0.0/8` or \
             `2001:db8::/32`, a single address, or a list of these; `conditions.role` has 0 names; it takes 1 to 1000",
        ]
    );
}

#[test]
fn a_policy_is_written_as_it_was_read() {
    let written = json!({
        "name": "n", "description": "d", "type": "t", "effect": "deny", "priority": 7, "conditions": {"role": "r"},
        "actions": ["a"], "resources": ["r"], "isActive": false,
    });
    let policy: Policy = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(policy).unwrap(), written);
}

#[test]
fn a_decision_in_json() {
    let set = PolicySet::default();
    let request = Request::from_json(br#"{"action": "a", "resource": "r", "type": "t"}"#).unwrap();
    let explanation = set.explain(&request, Timestamp::UNIX_EPOCH, &Answers::default());
    assert_eq!(
        serde_json::to_value(explanation).unwrap(),
        json!({"allowed": false, "reason": "no policy allows `a` on `r`", "appliedPolicies": [], "considered": []})
    );
}
