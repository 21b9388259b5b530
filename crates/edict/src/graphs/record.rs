//! What makes a graph's record valid.

use super::plan::{Fault, Plan};
use crate::error::{ApiError, Code};
use crate::http::document;
use crate::policies::record::{check_name, check_schema};
use crate::store::{Arg, Statement, Store, StoreError, Tx};
use edict_client::records::{Graph, Object};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Fields that only the server sets.
pub(super) const OWN_FIELDS: [&str; 4] = ["graph_uri", "created_at", "updated_at", "revision"];

/// Turns a payload into a record: known fields only, names, schemas, nodes and edges checked, derived fields set anew.
/// What only the server sets is taken from `previous`, or starts anew.
///
/// # Errors
/// 400 for unknown fields, wrong types and names; 422 for schemas that are not valid, and graphs that cannot run.
pub(super) fn from_payload(mut payload: Object, previous: Option<&Graph>) -> Result<(Graph, Plan), ApiError> {
    for field in OWN_FIELDS {
        payload.remove(field);
    }
    let mut graph: Graph = document(payload, Graph::known_fields())?;
    for (field, name) in [
        ("graph_name", &graph.graph_name),
        ("graph_version", &graph.graph_version),
        ("graph_release_tag", &graph.graph_release_tag),
    ] {
        check_name(field, name)?;
    }
    match &graph.graph_metadata {
        Value::String(_) | Value::Object(_) => {}
        Value::Null => graph.graph_metadata = Value::Object(Object::new()),
        _ => {
            let problem = "field `graph_metadata` must be a string or an object";
            return Err(
                ApiError::new(Code::InvalidField, problem).details(json!({"field": "graph_metadata"}))
            );
        }
    }
    check_schema("graph_input_schema", &graph.graph_input_schema)?;
    check_schema("graph_output_schema", &graph.graph_output_schema)?;
    let plan = Plan::new(&graph.graph_function_ids, &graph.graph_connection_data).map_err(invalid)?;
    graph.graph_uri = graph.uri();
    let now = crate::now();
    graph.created_at = previous.map_or_else(|| now.clone(), |old| old.created_at.clone());
    graph.revision = previous.map_or(1, |old| old.revision + 1);
    graph.updated_at = now;
    Ok((graph, plan))
}

/// Checks that every function of a graph is deployed.
///
/// # Errors
/// 422 `invalid_graph` that names those that are not.
pub(super) async fn check_functions(store: &Store, graph: &Graph) -> Result<(), ApiError> {
    deployed(graph, store.fetch::<(String,)>(functions(graph)).await?)
}

/// [`check_functions`] within a transaction.
pub(super) async fn check_functions_in(tx: &mut Tx, graph: &Graph) -> Result<(), ApiError> {
    let found: Result<_, StoreError> = tx.fetch::<(String,)>(functions(graph)).await;
    deployed(graph, found?)
}

fn functions(graph: &Graph) -> Statement {
    let ids = &graph.graph_function_ids;
    let places: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
    let sql = format!("SELECT key FROM functions WHERE key IN ({})", places.join(", "));
    Statement::new(sql).bind_all(ids.iter().map(|id| Arg::from(id.as_str())))
}

fn deployed(graph: &Graph, found: Vec<(String,)>) -> Result<(), ApiError> {
    let found: HashSet<String> = found.into_iter().map(|(key,)| key).collect();
    let ids = graph.graph_function_ids.iter().map(String::as_str);
    let missing: Vec<&str> = ids.filter(|id| !found.contains(*id)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let others = match missing.len() {
        1 => String::new(),
        count => format!(" (nor {} others of this graph)", count - 1),
    };
    let shown = crate::shorten(first);
    Err(invalid(Fault::new(
        format!("there is no function `{shown}`{others}: deploy it first, or correct `graph_function_ids`"),
        &missing,
    )))
}

fn invalid(fault: Fault) -> ApiError {
    ApiError::new(Code::InvalidGraph, fault.message).details(json!({"nodes": fault.nodes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(changes: Value) -> Result<Graph, ApiError> {
        let mut payload = json!({
            "graph_name": "g", "graph_version": "1.0", "graph_release_tag": "test",
            "graph_function_ids": ["a", "b"], "graph_connection_data": {"a": ["b"]},
        });
        for (name, value) in changes.as_object().unwrap() {
            payload[name] = value.clone();
        }
        from_payload(payload.as_object().unwrap().clone(), None).map(|(graph, _)| graph)
    }

    #[test]
    fn metadata_is_text_or_an_object() {
        assert_eq!(graph(json!({})).unwrap().graph_metadata, json!({}));
        assert_eq!(graph(json!({"graph_metadata": "x"})).unwrap().graph_metadata, json!("x"));
        for bad in [json!(1), json!([]), json!(true)] {
            let error = graph(json!({"graph_metadata": bad})).unwrap_err();
            assert_eq!(error.code(), Code::InvalidField, "{bad}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_with_its_code() {
        let code = |changes: Value| graph(changes).unwrap_err().code();
        assert_eq!(code(json!({"graph_version": "1/0"})), Code::InvalidName);
        assert_eq!(code(json!({"graph_functions": []})), Code::UnknownField);
        assert_eq!(code(json!({"graph_function_ids": "a"})), Code::InvalidField);
        assert_eq!(code(json!({"graph_connection_data": {"a": "b"}})), Code::InvalidField);
        assert_eq!(code(json!({"graph_connection_data": {"a": ["c"]}})), Code::InvalidGraph);
        assert_eq!(code(json!({"graph_function_ids": []})), Code::InvalidGraph);
        assert_eq!(code(json!({"graph_input_schema": {"x": {"type": "txt"}}})), Code::InvalidSchema);
        assert_eq!(code(json!({"graph_output_schema": {"x": 1}})), Code::InvalidSchema);
    }

    #[test]
    fn missing_functions_are_named() {
        let graph = graph(json!({})).unwrap();
        assert!(deployed(&graph, vec![("b".to_owned(),), ("a".to_owned(),)]).is_ok());
        let error = deployed(&graph, vec![("b".to_owned(),)]).unwrap_err();
        assert!(error.message().starts_with("there is no function `a`:"), "{}", error.message());
        let error = deployed(&graph, Vec::new()).unwrap_err();
        assert!(error.message().contains("`a` (nor 1 others"), "{}", error.message());
        assert_eq!(error.into_details(), json!({"nodes": ["a", "b"]}));
    }
}
