//! Random policies and requests: the index and the naive evaluator agree, whatever is asked.

use std::collections::BTreeMap;

use edict_engine::{Answers, Policy, PolicySet, Request, Timestamp};
use proptest::{collection, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::naive;

type Given = BTreeMap<String, Result<bool, String>>;

/// Over few characters, so that patterns often match; `é` has two bytes.
fn text() -> impl Strategy<Value = String> {
    "[ab:é]{1,6}"
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ab:é]{1,5}",
        3 => "[ab:é]{1,4}[*]",
        2 => "[*][ab:é]{1,4}",
        3 => "[ab:é*?]{1,6}",
        1 => Just("*".to_owned()),
        // Beyond what the index looks at byte by byte.
        1 => "x{30,36}[*][ab]",
    ]
}

fn place() -> impl Strategy<Value = String> {
    prop_oneof![9 => text(), 1 => "x{30,40}[ab]{0,2}"]
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["u", "v", "w"])
}

fn names() -> impl Strategy<Value = Value> {
    prop_oneof![
        name().prop_map(|name| json!(name)),
        collection::vec(name(), 1..3).prop_map(|names| json!(names))
    ]
}

fn conditions() -> impl Strategy<Value = Map<String, Value>> {
    let network = select(vec!["10.0.0.0/8", "10.1.0.0/15", "::/0", "2001:db8::/33", "0.0.0.0/0"]);
    let severity = prop_oneof![Just(json!("high")), Just(json!({"$gte": 3})), Just(json!(null))];
    let metadata = option::of(severity)
        .prop_map(|severity| severity.map_or(json!({}), |severity| json!({ "severity": severity })));
    let hours = (0..20_u32, 1..10_u32).prop_map(|(start, long)| {
        let edge = |hour: u32| format!("2026-11-{:02}T{:02}:00:00Z", 22 + hour / 24, hour % 24);
        json!({"start": edge(start), "end": edge(start + long)})
    });
    let parts = (
        option::weighted(0.3, names()),
        option::weighted(0.2, names()),
        option::weighted(0.2, names()),
        option::weighted(0.2, network.prop_map(|network| json!(network))),
        option::weighted(0.2, hours),
        option::weighted(0.3, metadata),
        option::weighted(0.2, select(vec!["p:1-a", "q:1-a"]).prop_map(|uri| json!(uri))),
    );
    parts.prop_map(|(role, roles, user, network, hours, metadata, rule)| {
        let named = [
            ("role", role),
            ("roles", roles),
            ("userId", user),
            ("ipRange", network),
            ("timeRange", hours),
            ("metadata", metadata),
            ("policyRuleUri", rule),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

prop_compose! {
    fn policy()(
        kind in select(vec!["t", "s", "*"]),
        effect in select(vec!["allow", "allow", "deny"]),
        priority in 0..4_u16,
        conditions in conditions(),
        actions in collection::vec(prop_oneof![2 => "[ab]{1,2}".boxed(), 1 => "[ab*?]{1,3}".boxed()], 1..4),
        resources in collection::vec(pattern(), 1..4),
        active in prop::bool::weighted(0.9),
    ) -> Value {
        json!({
            "type": kind, "effect": effect, "priority": priority, "conditions": conditions, "actions": actions,
            "resources": resources, "isActive": active,
        })
    }
}

fn policies(most: usize) -> impl Strategy<Value = Vec<Policy>> {
    collection::vec(policy(), 0..most).prop_map(|policies| {
        let named = |(position, mut policy): (usize, Value)| {
            policy["name"] = json!(format!("p{position}"));
            Policy::from_value(&policy).unwrap()
        };
        policies.into_iter().enumerate().map(named).collect()
    })
}

prop_compose! {
    fn request()(
        action in "[ab]{1,2}",
        resource in place(),
        kind in select(vec!["t", "s"]),
        role in option::of(name()),
        roles in option::of(collection::vec(name(), 0..3)),
        user in option::of(name()),
        address in option::of(select(vec!["10.0.0.1", "10.1.2.3", "11.0.0.1", "2001:db8::1", "2001:db8:8000::1", "nonsense"])),
        severity in option::of(select(vec![json!("high"), json!(2), json!(3), json!(null)])),
    ) -> Value {
        let mut metadata = Map::new();
        metadata.extend(severity.map(|severity| ("severity".to_owned(), severity)));
        json!({
            "action": action, "resource": resource, "type": kind,
            "context": {"role": role, "roles": roles, "userId": user, "ipAddress": address, "metadata": metadata},
        })
    }
}

fn given() -> impl Strategy<Value = Given> {
    let answer = prop_oneof![Just(Ok(true)), Just(Ok(false)), Just(Err("broke".to_owned()))];
    collection::btree_map(select(vec!["p:1-a".to_owned(), "q:1-a".to_owned()]), answer, 0..3)
}

fn compare(
    set: &PolicySet,
    policies: &[Policy],
    request: &Value,
    now: Timestamp,
    given: &Given,
) -> Result<(), TestCaseError> {
    let expected = naive::evaluate(policies, request, now, given);
    let text = request.to_string();
    let parsed = Request::from_json(text.as_bytes()).unwrap();
    let mut answers = Answers::default();
    given.iter().for_each(|(uri, answer)| answers.insert(uri, answer.clone()));
    let decision = set.evaluate(&parsed, now, &answers);
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut errors: Vec<_> =
        decision.errors.iter().map(|error| (error.policy.to_owned(), error.field.to_owned())).collect();
    // Within a policy the order of the conditions is the engine's own.
    let mut wanted = expected.errors.clone();
    errors.sort();
    wanted.sort();
    prop_assert_eq!(&errors, &wanted);
    let got = naive::Outcome {
        allowed: decision.allowed,
        applied: owned(decision.applied_policies.clone()),
        errors: expected.errors.clone(),
        questions: owned(set.questions(&parsed, now)),
    };
    prop_assert_eq!(got, expected);
    let explanation = set.explain(&parsed, now, &answers);
    prop_assert_eq!(explanation.considered.len(), policies.len());
    let mut applied: Vec<_> =
        explanation.considered.iter().filter(|policy| policy.applied).map(|policy| policy.policy).collect();
    let mut listed = decision.applied_policies.clone();
    applied.sort_unstable();
    listed.sort_unstable();
    prop_assert_eq!(applied, listed);
    prop_assert_eq!(explanation.decision, decision);
    Ok(())
}

proptest! {
    #[test]
    fn the_index_and_the_naive_evaluator_agree(
        policies in policies(12),
        requests in collection::vec((request(), 0..30_i64, given()), 1..8),
    ) {
        let set = PolicySet::compile(policies.clone()).unwrap();
        for (request, hour, given) in &requests {
            let now = Timestamp::from_second(1_795_305_600 + hour * 3600).unwrap();
            compare(&set, &policies, request, now, given)?;
        }
    }

    #[test]
    fn wildcards_mean_what_they_say(pattern in "[abé?*]{1,8}", text in "[abé]{1,12}") {
        let policy = json!({
            "name": "n", "type": "t", "effect": "allow", "actions": ["*"], "resources": [pattern],
        });
        let policies = vec![Policy::from_value(&policy).unwrap()];
        let set = PolicySet::compile(policies.clone()).unwrap();
        let request = json!({"action": "a", "resource": text, "type": "t", "context": {}});
        compare(&set, &policies, &request, Timestamp::UNIX_EPOCH, &Given::new())?;
    }

    #[test]
    fn a_deny_more_never_allows_more(policies in policies(8), deny in policy(), request in request(), given in given()) {
        let mut deny = deny;
        deny["name"] = json!("deny");
        deny["effect"] = json!("deny");
        let text = request.to_string();
        let request = Request::from_json(text.as_bytes()).unwrap();
        let mut answers = Answers::default();
        given.into_iter().for_each(|(uri, answer)| answers.insert(uri, answer));
        let now = Timestamp::from_second(1_795_305_600).unwrap();
        let before = PolicySet::compile(policies.clone()).unwrap();
        let more = policies.into_iter().chain([Policy::from_value(&deny).unwrap()]).collect();
        let after = PolicySet::compile(more).unwrap();
        let (before, after) = (before.evaluate(&request, now, &answers), after.evaluate(&request, now, &answers));
        prop_assert!(before.allowed || !after.allowed);
        prop_assert!(!after.allowed || !after.applied_policies.contains(&"deny"));
    }

    #[test]
    fn any_text_is_a_request_or_an_error(text in ".{0,60}", field in "action|resource|type|context") {
        let _ = Request::from_json(text.as_bytes());
        let odd = json!({field: text, "action": "a"}).to_string();
        let _ = Request::from_json(odd.as_bytes());
    }

    #[test]
    fn any_value_is_a_condition_or_a_fault(name in "role|userId|ipRange|timeRange|metadata|policyRuleUri|x", text in ".{0,20}") {
        for value in [json!(text), json!([text]), json!({"start": text, "weekday": text, "hour": text, "timeZone": text})] {
            let policy = Policy::from_value(&json!({
                "name": "n", "type": "t", "effect": "deny", "actions": ["*"], "resources": ["*"], "conditions": {&name: value},
            }))
            .unwrap();
            let checked = policy.check();
            // What passes the check compiles, and what does not still compiles to a deny.
            prop_assert_eq!(PolicySet::compile(vec![policy.clone()]).is_ok(), checked.is_ok());
            let (set, unreadable) = PolicySet::compile_stored(vec![policy]).unwrap();
            prop_assert_eq!(unreadable.is_empty(), checked.is_ok());
            if checked.is_err() {
                let request = Request::from_json(br#"{"action": "a", "resource": "r", "type": "t"}"#).unwrap();
                let decision = set.evaluate(&request, Timestamp::UNIX_EPOCH, &Answers::default());
                prop_assert_eq!(decision.applied_policies, vec!["n"]);
            }
        }
    }
}
