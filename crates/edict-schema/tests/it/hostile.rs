//! Schemas and instances made to overflow the stack, or to take all memory or time.

use std::time::{Duration, Instant};

use edict_schema::{Commands, MAX_FAULTS, Schema};
use serde_json::{Map, Value, json};

/// A value of `levels` arrays or objects in one another, and a drop that doesn't recurse, as the one of
/// `serde_json` would.
struct Deep(Value);

impl Deep {
    fn new(levels: usize, wrap: impl Fn(Value) -> Value) -> Self {
        Self((0..levels).fold(Value::Null, |inner, _| wrap(inner)))
    }
}

impl Drop for Deep {
    fn drop(&mut self) {
        let mut open = vec![self.0.take()];
        while let Some(value) = open.pop() {
            match value {
                Value::Array(items) => open.extend(items),
                Value::Object(map) => open.extend(map.into_iter().map(|(_, value)| value)),
                _ => {}
            }
        }
    }
}

fn object(value: Value) -> Value {
    Value::Object(Map::from_iter([("f".to_owned(), value)]))
}

fn array(value: Value) -> Value {
    Value::Array(vec![value])
}

fn on_a_small_stack(check: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(1 << 20).spawn(check).unwrap().join().unwrap();
}

#[test]
fn deep_instances() {
    on_a_small_stack(|| {
        let schemas = [
            json!({"f": {}}),
            json!({"f": {"type": "string"}}),
            json!({"f": {"type": "object", "properties": {"f": {"type": "array", "items": {"type": "array"}}}}}),
            json!({"f": {"choices": [[[[]]], {"f": {"f": null}}]}}),
            json!({"type": "object", "properties": {"f": {"type": "string"}}}),
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "properties": {"f": {"$ref": "#"}}}),
        ];
        for wrap in [object, array] {
            let deep = Deep::new(10_000, wrap);
            for schema in &schemas {
                let compiled = Schema::compile(schema).unwrap();
                // Any answer will do for the first; what matters is that there is one.
                let _ = compiled.validate(&deep.0);
            }
            let refused = Schema::compile(&schemas[5]).unwrap().validate(&deep.0).unwrap_err();
            assert_eq!(refused[0].message, "must nest at most 128 levels deep");
        }
    });
}

#[test]
fn deep_schemas() {
    on_a_small_stack(|| {
        let definition = |inner| Value::Object(Map::from_iter([("items".to_owned(), inner)]));
        for deep in [Deep::new(10_000, object), Deep::new(10_000, array), Deep::new(10_000, definition)] {
            assert!(Schema::compile(&deep.0).is_err());
            assert!(Commands::compile(&deep.0).is_err());
        }
    });
}

#[test]
fn as_deep_as_a_schema_may_be() {
    on_a_small_stack(|| {
        let template = |levels| {
            let nest = |inner, _| json!({"type": "object", "properties": {"f": inner}});
            json!({"f": (0..levels).fold(json!({"type": "string", "required": true}), nest)})
        };
        assert!(Schema::compile(&template(32)).is_err());
        let schema = Schema::compile(&template(31)).unwrap();
        let instance = (0..32).fold(json!(1), |inner, _| json!({ "f": inner }));
        assert_eq!(schema.validate(&instance).unwrap_err()[0].pointer, "/f".repeat(32));

        let nested = (0..30).fold(json!({"type": "string"}), |inner, _| json!({"allOf": [inner]}));
        let schema = json!({"type": "object", "properties": {"f": nested}});
        let schema = Schema::compile(&schema).unwrap();
        assert_eq!(schema.validate(&json!({"f": 1})).unwrap_err()[0].pointer, "/f");
    });
}

/// `d0` refers to `d1`, `d1` to `d2`, and so on; the last to what `end` is.
fn chain(links: usize, end: &Value) -> Value {
    let mut definitions = Map::new();
    for link in 0..links {
        definitions.insert(format!("d{link}"), json!({"$ref": format!("#/$defs/d{}", link + 1)}));
    }
    definitions.insert(format!("d{links}"), end.clone());
    let draft = "https://json-schema.org/draft/2020-12/schema";
    json!({"$schema": draft, "$defs": definitions, "$ref": "#/$defs/d0"})
}

#[test]
fn long_chains_of_references() {
    on_a_small_stack(|| {
        let schema = Schema::compile(&chain(4_000, &json!({"type": "string"}))).unwrap();
        assert!(schema.validate(&json!("x")).is_ok());
        assert_eq!(schema.validate(&json!(1)).unwrap_err().len(), 1);

        let again = json!({"type": "array", "items": {"$ref": "#/$defs/d0"}});
        let schema = Schema::compile(&chain(400, &again)).unwrap();
        let deep = Deep::new(100, array);
        assert_eq!(schema.validate(&deep.0).unwrap_err().len(), 1);

        let schema = Schema::compile(&chain(4_000, &again)).unwrap();
        let faults = schema.validate(&deep.0).unwrap_err();
        assert_eq!(faults[0].message, "is nested too deeply for a schema with so many references");
    });
}

#[test]
fn references_that_fan_out() {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let mut definitions = Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            definitions.insert(format!("d{level}"), json!({ keyword: [next.clone(), next] }));
        }
        definitions.insert("d40".to_owned(), json!({"type": "string"}));
        let draft = "https://json-schema.org/draft/2020-12/schema";
        let schema = json!({"$schema": draft, "$defs": definitions, "$ref": "#/$defs/d0"});
        let start = Instant::now();
        let faults = Schema::compile(&schema).unwrap_err();
        assert_eq!(faults[0].message, "comes to more than 20000 values once its references are followed");
        assert!(start.elapsed() < Duration::from_secs(5), "{keyword} took {:?}", start.elapsed());
    }
}

#[test]
fn references_that_fan_out_with_each_level() {
    let again = json!({"items": {"$ref": "#/$defs/a"}});
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let definition = json!({"type": "array", keyword: [again, again]});
        let draft = "https://json-schema.org/draft/2020-12/schema";
        let schema = json!({"$schema": draft, "$defs": {"a": definition}, "$ref": "#/$defs/a"});
        let schema = Schema::compile(&schema).unwrap();
        let start = Instant::now();
        let faults = schema.validate(&Deep::new(60, array).0).unwrap_err();
        let message = "does not fit the schema, whose references combine in too many ways to say where";
        assert_eq!((faults.len(), faults[0].message.as_str()), (1, message));
        let bottom = (0..60).fold(json!([]), |inner, _| array(inner));
        assert_eq!(schema.validate(&bottom).is_ok(), keyword != "oneOf");
        assert!(start.elapsed() < Duration::from_secs(5), "{keyword} took {:?}", start.elapsed());
    }
}

#[test]
fn ordinary_references_are_explained() {
    let model = json!({
        "type": "object",
        "$defs": {"owner": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        "properties": {"owner": {"anyOf": [{"$ref": "#/$defs/owner"}, {"type": "null"}]}, "by": {"$ref": "#/$defs/owner"}},
    });
    let faults =
        Schema::compile(&model).unwrap().validate(&json!({"owner": 1, "by": {"name": 2}})).unwrap_err();
    assert!(faults.iter().any(|fault| fault.pointer == "/owner"));
    assert!(faults.iter().any(|fault| fault.pointer == "/by/name"));
}

#[test]
fn large_instances_have_few_faults() {
    let numbers = json!({ "f": (0..200_000).collect::<Vec<_>>() });
    let template = Schema::compile(&json!({"f": {"type": "array", "items": {"type": "string"}}})).unwrap();
    assert_eq!(template.validate(&numbers).unwrap_err().len(), MAX_FAULTS);
    let properties = json!({"f": {"items": {"type": "string"}}});
    let schema = Schema::compile(&json!({"type": "object", "properties": properties})).unwrap();
    assert_eq!(schema.validate(&numbers).unwrap_err().len(), 1);
}

#[test]
fn large_schemas() {
    let many: Map<_, _> = (0..5_000).map(|i| (format!("f{i}"), json!({"type": "any"}))).collect();
    let faults = Schema::compile(&Value::Object(many)).unwrap_err();
    assert_eq!(faults[0].message, "must hold at most 10000 values, holds 10001");
    let patterns =
        |count| (0..count).map(|i| (format!("f{i}"), json!({"type": "string", "pattern": format!("^{i}")})));
    assert!(Schema::compile(&patterns(100).collect()).is_ok());
    let faults = Schema::compile(&patterns(101).collect()).unwrap_err();
    assert_eq!(faults[0].message, "must hold at most 100 different patterns, holds 101");
    let commands: Vec<_> = (0..1_001).map(|i| json!({"name": i.to_string()})).collect();
    assert!(Commands::compile(&json!(commands)).is_err());
}

#[test]
fn matching_takes_linear_time() {
    let schema = Schema::compile(&json!({"f": {"type": "string", "pattern": "^(a+)+$"}})).unwrap();
    let start = Instant::now();
    assert!(schema.validate(&json!({"f": format!("{}b", "a".repeat(100_000))})).is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
}
