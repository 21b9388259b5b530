//! The cases in `tests/cases`: schemas, instances, and every fault with its pointer and message.

use edict_schema::{CommandFault, Commands, Fault, Schema};
use serde_json::{Value, json};

fn load(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn faults<T>(result: Result<T, Vec<Fault>>) -> Value {
    json!(result.err().unwrap_or_default())
}

fn check_instances(cases: &[Value]) {
    for case in cases {
        let schema =
            Schema::compile(&case["schema"]).unwrap_or_else(|faults| panic!("{}: {faults:?}", case["name"]));
        for check in case["checks"].as_array().unwrap() {
            let got = faults(schema.validate(&check["instance"]));
            assert_eq!(got, check["faults"], "{}: {}", case["name"], check["instance"]);
        }
    }
}

#[test]
fn templates() {
    check_instances(&load(include_str!("../cases/templates.json")));
}

#[test]
fn json_schemas() {
    check_instances(&load(include_str!("../cases/json_schemas.json")));
}

#[test]
fn mistakes_in_schemas() {
    for case in load(include_str!("../cases/mistakes.json")) {
        assert_eq!(faults(Schema::compile(&case["schema"])), case["faults"], "{}", case["name"]);
    }
}

#[test]
fn commands() {
    for case in load(include_str!("../cases/commands.json")) {
        let commands = match Commands::compile(&case["commands"]) {
            Ok(commands) => commands,
            Err(faults) => {
                assert_eq!(json!(faults), case["faults"], "{}", case["name"]);
                continue;
            }
        };
        for check in case["checks"].as_array().unwrap() {
            let (message, faults) = match commands.validate(check["action"].as_str().unwrap(), &check["data"])
            {
                Ok(()) => (Value::Null, Value::Null),
                Err(CommandFault::Data(faults)) => (Value::Null, json!(faults)),
                Err(unknown @ CommandFault::UnknownAction { .. }) => {
                    (json!(unknown.to_string()), Value::Null)
                }
            };
            assert_eq!(message, check["message"], "{check}");
            assert_eq!(faults, check["faults"], "{check}");
        }
    }
}

#[test]
fn a_fault_reads_as_a_sentence() {
    let commands = Commands::compile(&json!([{"name": "a", "schema": {"f": {"type": "string"}}}])).unwrap();
    let fault = commands.validate("a", &json!({"f": 1})).unwrap_err();
    let text = "the data does not fit the command's schema: `/f`: must be a string, got the number `1`";
    assert_eq!(fault.to_string(), text);
}

#[test]
fn only_the_empty_schema_is_empty() {
    assert!(Schema::compile(&json!({})).unwrap().is_empty());
    assert!(!Schema::compile(&json!({"f": {}})).unwrap().is_empty());
    assert!(Commands::compile(&json!([])).unwrap().is_empty());
}

#[test]
fn schemas_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Schema>();
    shared::<Commands>();
}
