//! What is made to hang, to overflow or to slip through.

use edict_engine::{Answers, Decision, Policy, PolicySet, Request, Timestamp};
use serde_json::{Value, json};

fn policy(name: &str, effect: &str, fields: Value) -> Policy {
    let mut policy =
        json!({"name": name, "type": "t", "effect": effect, "actions": ["*"], "resources": ["*"]});
    for (key, value) in fields.as_object().unwrap() {
        policy[key] = value.clone();
    }
    Policy::from_value(&policy).unwrap()
}

fn ask<'s>(set: &'s PolicySet, resource: &str, context: Value) -> Decision<'s> {
    let context = context.as_object().unwrap().clone();
    let request = Request::new("a", resource.to_owned(), "t", context).unwrap();
    set.evaluate(&request, Timestamp::UNIX_EPOCH, &Answers::default())
}

fn compile(policies: impl IntoIterator<Item = Policy>) -> PolicySet {
    PolicySet::compile(policies.into_iter().collect()).unwrap()
}

/// Each of these takes a matcher that tries again minutes or years; the test ends or it does not.
#[test]
fn wildcards_made_to_hang() {
    let long = "*a".repeat(200) + "*b";
    let with_question = "*a?".repeat(150) + "*b";
    for pattern in ["*a*a*a*a*a*b", long.as_str(), with_question.as_str(), "*?*?*?*?*?*?*b", "a*?a*?a*?a*?b"]
    {
        let set = compile([policy("p", "allow", json!({"resources": [pattern]}))]);
        for length in [300, 4_000] {
            assert!(!ask(&set, &"a".repeat(length), json!({})).allowed, "{pattern}");
            assert!(ask(&set, &("a".repeat(length) + "b"), json!({})).allowed, "{pattern}");
        }
    }
}

#[test]
fn regular_expressions_made_to_hang() {
    let set = compile([
        policy("p", "deny", json!({"conditions": {"metadata": {"x": {"$regex": "^(a+)+$"}}}})),
        policy("q", "deny", json!({"conditions": {"userId": {"$regex": "(a|aa|a?)*c"}}})),
    ]);
    let text = "a".repeat(4_000) + "b";
    let decision = ask(&set, "r", json!({"userId": text, "metadata": {"x": text}}));
    assert_eq!(decision.applied_policies, Vec::<&str>::new());
}

#[test]
fn what_a_policy_may_not_be() {
    let long = "x".repeat(1_001);
    let regex = "(a{1,100}){1,100}";
    let many = vec!["a"; 1_001];
    let mut deep = json!("high");
    for _ in 0..100 {
        deep = json!({"$not": {"$elemMatch": {"a": deep}}});
    }
    let clauses: Vec<u32> = (0..2_000).collect();
    for (fields, field) in [
        (json!({"resources": [long]}), "resources.0"),
        (json!({"resources": many}), "resources"),
        (json!({"conditions": {"role": many}}), "conditions.role"),
        (json!({"conditions": {"metadata": {"x": {"$regex": regex}}}}), "conditions.metadata.x"),
        (json!({"conditions": {"metadata": {"x": deep}}}), "conditions.metadata.x"),
        (json!({"conditions": {"metadata": {"x": {"$in": clauses}}}}), "conditions.metadata.x"),
        (json!({"conditions": {"ipRange": vec!["10.0.0.0/8"; 1_001]}}), "conditions.ipRange"),
    ] {
        let error = policy("p", "allow", fields).check().unwrap_err();
        assert_eq!(error.faults.len(), 1, "{error}");
        assert_eq!(error.faults[0].field, field, "{error}");
        assert!(error.to_string().len() < 1_000, "{error}");
    }
}

#[test]
fn requests_that_are_too_much() {
    let text = |action: &str, context: &str| {
        format!(r#"{{"action": "{action}", "resource": "r", "type": "t", "context": {context}}}"#)
    };
    let deep = format!(r#"{{"metadata": {}1{}}}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let roles = json!({"roles": vec!["r"; 257]}).to_string();
    for (request, wanted) in [
        (text(&"a".repeat(4_097), "{}"), "`action` has 4097 bytes; it takes 1 to 4096"),
        (text("a", &deep), "the request is not valid JSON: recursion limit exceeded at line 1 column 696"),
        (text("a", &roles), "`context.roles` has 257 entries; it takes at most 256"),
        (
            text("a", &format!(r#"{{"userId": "{}"}}"#, "u".repeat(5_000))),
            "`context.userId` has 5000 bytes; it takes at most 4096",
        ),
        (
            "[".repeat(1_000_000),
            "the request is not valid JSON: recursion limit exceeded at line 1 column 128",
        ),
    ] {
        assert_eq!(Request::from_json(request.as_bytes()).unwrap_err().to_string(), wanted);
    }
    assert!(Request::from_json(b"{\"action\": \"\xff\"}").is_err());
}

/// An unknown name or a value of megabytes must not come back as a message of megabytes, nor take its square.
#[test]
fn messages_stay_short() {
    let long = "n".repeat(1_000_000);
    let unknown = json!({long.as_str(): 1, "action": "a", "resource": "r", "type": "t"}).to_string();
    assert!(Request::from_json(unknown.as_bytes()).unwrap_err().message.len() < 1_000);
    let typed = json!({"action": [long], "resource": "r", "type": "t"}).to_string();
    assert!(Request::from_json(typed.as_bytes()).unwrap_err().message.len() < 1_000);
    let error = Policy::from_value(&json!({long.as_str(): 1, "name": {"a": long}})).unwrap_err();
    assert!(error.to_string().len() < 2_000);
    let set = compile([policy("p", "allow", json!({"conditions": {"metadata": {"x": 1}, "role": "r"}}))]);
    let context = json!({"metadata": {"x": long}, "role": "r"}).as_object().unwrap().clone();
    let request = Request::new("a".repeat(4_096), "r".repeat(4_096), "t", context).unwrap();
    let explanation = set.explain(&request, Timestamp::UNIX_EPOCH, &Answers::default());
    assert!(explanation.considered[0].why.len() < 1_000);
    assert!(explanation.decision.reason.len() < 1_000);
}

/// Literal ends of every length, and of one length beyond what is indexed byte by byte.
#[test]
fn long_and_many_ends() {
    let ends = (0..999).map(|length| "p".repeat(length));
    let set = compile(ends.clone().flat_map(|end| {
        let name = end.len();
        [
            policy(&format!("prefix-{name}"), "allow", json!({"resources": [format!("{end}p*")]})),
            policy(&format!("suffix-{name}"), "deny", json!({"resources": [format!("*s{end}")]})),
        ]
    }));
    for length in [1, 31, 32, 33, 47, 48, 255, 256, 257, 999] {
        let decision = ask(&set, &"p".repeat(length), json!({}));
        assert!(decision.allowed, "{length}");
        assert_eq!(decision.applied_policies.len(), length);
        let decision = ask(&set, &format!("s{}", "p".repeat(length - 1)), json!({}));
        assert_eq!(decision.applied_policies, [format!("suffix-{}", length - 1)]);
    }
}

/// More combinations than are filed one by one.
#[test]
fn policies_of_many_actions_resources_and_roles() {
    let listed = |what: &str| (0..100).map(|number| format!("{what}{number}")).collect::<Vec<_>>();
    let set = compile([
        policy(
            "wide",
            "allow",
            json!({"actions": ["a"], "resources": listed("r"), "conditions": {"role": listed("x")}}),
        ),
        policy(
            "wider",
            "deny",
            json!({"actions": listed("a"), "resources": listed("r"), "conditions": {"role": listed("x")}}),
        ),
    ]);
    assert_eq!(ask(&set, "r99", json!({"role": "x99"})).applied_policies, ["wide"]);
    assert_eq!(ask(&set, "r99", json!({"role": "x100"})).applied_policies, Vec::<&str>::new());
    let request = Request::new("a99", "r0", "t", json!({"role": "x0"}).as_object().unwrap().clone()).unwrap();
    let decision = set.evaluate(&request, Timestamp::UNIX_EPOCH, &Answers::default());
    assert_eq!(decision.applied_policies, ["wider"]);
}

/// Text that holds what separates the parts of a key, or a NUL, is still one text.
#[test]
fn nothing_runs_together() {
    let set = compile([
        policy("p", "allow", json!({"actions": ["ab"], "resources": ["c"]})),
        policy("q", "allow", json!({"actions": ["a"], "resources": ["b\0c"]})),
    ]);
    assert!(!ask(&set, "bc", json!({})).allowed);
    assert!(ask(&set, "b\0c", json!({})).allowed);
    assert!(!ask(&set, "b", json!({})).allowed);
}

#[test]
fn one_broken_policy_of_ten_thousand() {
    let mut policies: Vec<_> = (0..10_000)
        .map(|number| policy(&format!("p{number}"), "allow", json!({"resources": [format!("r{number}")]})))
        .collect();
    policies[7_000].conditions = json!({"timeRange": {"start": "soon"}}).as_object().unwrap().clone();
    let errors = PolicySet::compile(policies.clone()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].policy, "p7000");
    let (set, unreadable) = PolicySet::compile_stored(policies).unwrap();
    assert_eq!((set.len(), unreadable), (10_000, errors));
    assert!(ask(&set, "r6999", json!({})).allowed);
    assert!(!ask(&set, "r7000", json!({})).allowed);
}

#[test]
fn a_set_is_shared_by_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<PolicySet>();
    shared::<Answers>();
}
