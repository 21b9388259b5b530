//! Properties that hold for whatever template, instance or JSON there is.

use edict_schema::{Commands, Fault, MAX_FAULTS, Schema};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A definition together with a value that satisfies it.
fn definition() -> impl Strategy<Value = (Value, Value)> {
    let leaf = prop_oneof![
        ("[a-c]{0,6}", 0..4_usize).prop_map(|(text, more)| {
            let length = text.chars().count() + more;
            (json!({"type": "string", "length": length, "pattern": "^[a-c]*$"}), json!(text))
        }),
        (".{0,8}").prop_map(|text| (json!({"type": "string", "choices": ["x", text]}), json!(text))),
        (any::<i64>(), 0..1_000_i64).prop_map(|(value, room)| {
            let (min, max) = (value.saturating_sub(room), value.saturating_add(room));
            (json!({"type": "integer", "min": min, "max": max}), json!(value))
        }),
        (-1e9..1e9_f64)
            .prop_map(|value| (json!({"type": "number", "min": value, "max": value}), json!(value))),
        any::<bool>().prop_map(|value| (json!({"type": "boolean", "choices": [value]}), json!(value))),
        wild(3).prop_map(|value| (json!({"type": "any"}), value)),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0..4_usize).prop_map(|((definition, value), count)| {
                let definition = json!({"type": "array", "max_length": count, "items": definition});
                (definition, json!(vec![value; count]))
            }),
            fields(inner).prop_map(|(fields, map)| (json!({"type": "object", "properties": fields}), map)),
        ]
    })
}

/// Fields, of which the optional ones are sometimes missing from the value.
fn fields(definition: impl Strategy<Value = (Value, Value)>) -> impl Strategy<Value = (Value, Value)> {
    btree_map("[a-z~/]{0,3}|type|properties|items", (definition, any::<bool>(), any::<bool>()), 0..4)
        .prop_map(|fields| {
            let (mut definitions, mut map) = (json!({}), json!({"not named": 1}));
            for (name, ((mut definition, value), required, present)) in fields {
                definition["required"] = json!(required);
                definitions[&name] = definition;
                if required || present {
                    map[&name] = value;
                }
            }
            (definitions, map)
        })
}

/// Any JSON, often with the words of schemas in it.
fn wild(depth: u32) -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("type".to_owned()),
        Just("properties".to_owned()),
        Just("items".to_owned()),
        Just("choices".to_owned()),
        Just("pattern".to_owned()),
        Just("required".to_owned()),
        Just("$schema".to_owned()),
        Just("$ref".to_owned()),
        Just("min".to_owned()),
        Just("max".to_owned()),
        Just("length".to_owned()),
        Just("schema".to_owned()),
        Just("name".to_owned()),
        Just("$defs".to_owned()),
        Just("anyOf".to_owned()),
        ".{0,5}",
    ];
    let text = prop_oneof![
        Just("object".to_owned()),
        Just("string".to_owned()),
        Just("number".to_owned()),
        Just("array".to_owned()),
        Just("#".to_owned()),
        Just("#/$defs/a".to_owned()),
        Just("(?=x)".to_owned()),
        Just("[a-".to_owned()),
        Just("https://json-schema.org/draft/2020-12/schema".to_owned()),
        Just("file:///x".to_owned()),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 60, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(word.clone(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every fault points to something that is there, and there are not too many.
fn well_formed(faults: &[Fault], value: &Value) -> Result<(), TestCaseError> {
    prop_assert!(!faults.is_empty() && faults.len() <= MAX_FAULTS);
    for fault in faults {
        prop_assert!(value.pointer(&fault.pointer).is_some(), "{fault} in {value}");
        prop_assert!(!fault.message.is_empty() && !fault.message.contains('\n'), "{fault:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_made_to_fit_fits((template, instance) in fields(definition())) {
        let schema = Schema::compile(&template);
        prop_assert!(schema.is_ok(), "{template}: {schema:?}");
        let faults = schema.unwrap().validate(&instance);
        prop_assert!(faults.is_ok(), "{template} for {instance}: {faults:?}");
    }

    #[test]
    fn what_is_made_not_to_fit_does_not((template, mut instance) in fields(definition()), wrong in wild(2)) {
        let (mut template, wrong) = (template, json!([wrong]));
        template["odd"] = json!({"type": "object"});
        instance["odd"] = wrong;
        let faults = Schema::compile(&template).unwrap().validate(&instance).unwrap_err();
        prop_assert_eq!(faults.len(), 1);
        prop_assert_eq!(&faults[0].pointer, "/odd");
    }

    #[test]
    fn any_instance_gets_an_answer((template, _) in fields(definition()), instance in wild(5)) {
        if let Err(faults) = Schema::compile(&template).unwrap().validate(&instance) {
            well_formed(&faults, &instance)?;
        }
    }

    #[test]
    fn any_schema_gets_an_answer(schema in wild(6), instance in wild(3)) {
        match Schema::compile(&schema) {
            Ok(compiled) => if let Err(faults) = compiled.validate(&instance) {
                well_formed(&faults, &instance)?;
            },
            Err(faults) => well_formed(&faults, &schema)?,
        }
        if let Err(faults) = Commands::compile(&schema) {
            well_formed(&faults, &schema)?;
        }
    }

    #[test]
    fn any_json_schema_gets_an_answer(mut schema in wild(5), instance in wild(4)) {
        if let Some(map) = schema.as_object_mut() {
            map.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
            match Schema::compile(&schema) {
                Ok(compiled) => if let Err(faults) = compiled.validate(&instance) {
                    well_formed(&faults, &instance)?;
                },
                Err(faults) => well_formed(&faults, &schema)?,
            }
        }
    }
}
