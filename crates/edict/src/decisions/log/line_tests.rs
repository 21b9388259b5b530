use super::*;
use edict_engine::EvaluationError;
use proptest::prelude::*;
use serde_json::{Value, json};

fn entry<'a>(context: Option<&'a RawValue>, texts: &'a [String; 4], policies: &'a [&'a str]) -> Entry<'a> {
    let [action, resource, kind, user] = texts;
    Entry {
        decision_id: super::super::Stamp::now().id,
        at: 1_763_800_000_123_456,
        action,
        resource,
        kind,
        user_id: Some(user),
        context,
        ip_address: None,
        user_agent: None,
        allowed: true,
        reason: "allowed by policy `a`",
        applied_policies: policies,
        errors: &[],
        duration: Duration::from_nanos(2_345),
        request_id: "r-1",
    }
}

fn plain() -> [String; 4] {
    ["restart_pod", "pod:api-1", "self_healing", "ann"].map(str::to_owned)
}

fn more(line: &[u8]) -> Value {
    serde_json::from_str(Line::read(line).unwrap().more.get()).unwrap()
}

#[test]
fn a_line_holds_what_was_decided() {
    let context = RawValue::from_string(r#"{"userId":"ann","metadata":{"n":1.00}}"#.into()).unwrap();
    let (texts, policies) = (plain(), ["a", "b"]);
    let error = EvaluationError { policy: "b", field: "ipRange", message: "no address".into() };
    let mut entry = entry(Some(&context), &texts, &policies);
    entry.ip_address = Some([127, 0, 0, 1].into());
    entry.user_agent = Some("curl");
    let errors = [error];
    entry.errors = &errors;
    let text = write(&entry).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        format!(
            r#"{{"id":"{}","at":1763800000123456,"action":"restart_pod","resource":"pod:api-1","type":"self_healing","user":"ann","allowed":true,"more":{{"reason":"allowed by policy `a`","policies":["a","b"],"errors":[{{"policy":"b","field":"ipRange","message":"no address"}}],"ns":2345,"request":"r-1","ip":"127.0.0.1","agent":"curl","context":{{"userId":"ann","metadata":{{"n":1.00}}}}}}}}
"#,
            entry.decision_id
        )
    );
}

#[test]
fn a_context_spread_over_lines_becomes_one() {
    let context = RawValue::from_string("{\r\n  \"a\": \"x\\ny\"\n}".into()).unwrap();
    let text = write(&entry(Some(&context), &plain(), &[])).unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(more(&text)["context"], json!({"a": "x\ny"}));
}

#[test]
fn nul_characters_are_replaced_and_what_looks_like_one_is_not() {
    let context = RawValue::from_string(r#"{"a":"\u0000\\u0000\\\u0000"}"#.into()).unwrap();
    let mut texts = plain();
    texts[1] = "pod:\0".into();
    let text = write(&entry(Some(&context), &texts, &[])).unwrap();
    assert_eq!(more(&text)["context"]["a"], "\u{fffd}\\u0000\\\u{fffd}");
    assert_eq!(Line::read(&text).unwrap().resource, "pod:\u{fffd}");
}

#[test]
fn a_large_context_keeps_who_asked_and_tells_what_is_missing() {
    let large = "x".repeat(100_000);
    let context = json!({"big": large, "metadata": {"n": 1}, "userId": "ann", "roles": ["r"], "also": large});
    let context = RawValue::from_string(context.to_string()).unwrap();
    let text = write(&entry(Some(&context), &plain(), &[])).unwrap();
    let more = more(&text);
    assert_eq!(more["context"], json!({"metadata": {"n": 1}, "userId": "ann", "roles": ["r"]}));
    assert_eq!(more["cut"]["bytes"], context.get().len());
    assert_eq!(more["cut"]["sha256"], hex::encode(<sha2::Sha256 as sha2::Digest>::digest(context.get())));
    assert_eq!(more["cut"]["omitted"], json!(["also", "big"]));
}

proptest! {
    /// Whatever texts a request holds, its line is one line, and gives them back but for NUL characters.
    #[test]
    fn lines_are_lines_and_give_back_what_they_hold(
        texts in proptest::array::uniform4(any::<String>()),
        policies in proptest::collection::vec(any::<String>(), 0..4),
        context in proptest::option::of(proptest::collection::btree_map(any::<String>(), any::<String>(), 0..5)),
        pretty in any::<bool>(),
    ) {
        let write_context = |context: &_| match pretty {
            true => serde_json::to_string_pretty(context).unwrap(),
            false => serde_json::to_string(context).unwrap(),
        };
        let context_text = context.as_ref().map(|context| RawValue::from_string(write_context(context)).unwrap());
        let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
        let text = write(&entry(context_text.as_deref(), &texts, &policies)).unwrap();
        prop_assert_eq!(text.iter().position(|byte| *byte == b'\n'), Some(text.len() - 1));
        let clean = |text: &str| text.replace('\0', "\u{fffd}");
        let line = Line::read(&text).unwrap();
        let user = line.user.unwrap();
        let columns = [&*line.action, &*line.resource, &*line.r#type, &*user];
        prop_assert_eq!(columns.map(str::to_owned), texts.each_ref().map(|text| clean(text)));
        let more: Value = serde_json::from_str(line.more.get()).unwrap();
        let policies: Vec<String> = policies.iter().map(|name| clean(name)).collect();
        prop_assert_eq!(&more["policies"], &json!(policies));
        let context = context.map(|fields| {
            fields.iter().map(|(name, value)| (clean(name), Value::from(clean(value)))).collect::<Value>()
        });
        prop_assert_eq!(more.get("context"), context.as_ref());
        prop_assert!(!line.more.get().contains("\\u0000") || line.more.get().contains("\\\\u0000"));
    }
}
