//! Whether an executor has a node with the labels that a job or function asks for.

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::executors::EXECUTORS;
use edict_client::records::{Executor, Labels};
use serde_json::{Value, json};
use std::fmt::Write;

/// The label that every node has by its name, as in Kubernetes.
const HOST_NAME: &str = "kubernetes.io/hostname";

/// The executor's node that has these labels; none in particular when its record lists no nodes. A node has the labels
/// in its own data, its `id` as `kubernetes.io/hostname`, and those of `executor_metadata.node_labels`.
///
/// # Errors
/// Why none has them.
pub(crate) fn fits(executor: &Executor, selector: &Labels) -> Result<Option<String>, String> {
    let shared = executor.executor_metadata.get("node_labels");
    let nodes = executor.executor_hardware_info.get("nodes").and_then(|nodes| nodes.get("nodeData"));
    let nodes = nodes.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if nodes.is_empty() {
        let missing = missing(selector, |name| text(shared, name));
        return if missing.is_empty() { Ok(None) } else { Err(unfit(&missing)) };
    }
    let id = |node: &Value| node.get("id").and_then(Value::as_str).map(str::to_owned);
    let lacks = |node: &Value| {
        missing(selector, |name| {
            text(node.get("labels"), name)
                .or_else(|| text(shared, name))
                .or_else(|| id(node).filter(|_| name == HOST_NAME))
        })
    };
    let mut nearest: Option<Vec<(&str, &str)>> = None;
    for node in nodes {
        let lacks = lacks(node);
        if lacks.is_empty() {
            return Ok(id(node));
        }
        if nearest.as_ref().is_none_or(|nearest| lacks.len() < nearest.len()) {
            nearest = Some(lacks);
        }
    }
    Err(unfit(&nearest.unwrap_or_default()))
}

/// A label's value. Numbers and booleans that were written without quotes count as their text.
fn text(labels: Option<&Value>, name: &str) -> Option<String> {
    match labels?.get(name)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn missing(selector: &Labels, label: impl Fn(&str) -> Option<String>) -> Vec<(&str, &str)> {
    let pairs = selector.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    pairs.filter(|(name, value)| label(name).as_deref() != Some(*value)).collect()
}

fn unfit(missing: &[(&str, &str)]) -> String {
    let mut reason = "no node has the labels asked for; missing:".to_owned();
    for (name, value) in missing {
        // Writing to text cannot fail.
        write!(reason, " `{}={}`", crate::shorten(name), crate::shorten(value)).ok();
    }
    reason
}

/// Checks an executor that a job or function names, and returns the node that takes it.
///
/// # Errors
/// 404 when there is none with this id, 422 `no_executor_fits` when none of its nodes has the labels.
pub(crate) async fn check(
    app: &App,
    executor_id: &str,
    selector: &Labels,
) -> Result<Option<String>, ApiError> {
    let document = EXECUTORS.get(&app.registry.store, executor_id).await?;
    let executor: Executor = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    fits(&executor, selector).map_err(|reason| {
        let message = format!("executor `{executor_id}` cannot take it: {reason}");
        let details = json!({"executors": [{"executor_id": executor_id, "reason": reason}]});
        ApiError::new(Code::NoExecutorFits, message).details(details)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(metadata: Value, nodes: Value) -> Executor {
        serde_json::from_value(json!({
            "executor_id": "e",
            "executor_metadata": metadata,
            "executor_hardware_info": {"nodes": {"nodeData": nodes}},
        }))
        .unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn one_node_must_have_all_labels() {
        let nodes = json!([
            {"id": "n1", "labels": {"zone": "a", "gpu": "yes"}},
            {"id": "n2", "labels": {"zone": "b", "cores": 8, "gpu": "no"}},
        ]);
        let executor = executor(json!({"node_labels": {"region": "eu"}}), nodes);
        let node = |pairs: &[(&str, &str)]| fits(&executor, &labels(pairs)).ok();
        let named = |id: &str| Some(Some(id.to_owned()));
        assert_eq!(node(&[]), named("n1"));
        assert_eq!(node(&[("zone", "b")]), named("n2"));
        assert_eq!(node(&[("zone", "b"), ("region", "eu")]), named("n2"));
        assert_eq!(node(&[("cores", "8")]), named("n2"));
        assert_eq!(node(&[("kubernetes.io/hostname", "n2")]), named("n2"));
        assert_eq!(node(&[("zone", "b"), ("gpu", "yes")]), None);
        assert_eq!(node(&[("zone", "")]), None);
        let reason = fits(&executor, &labels(&[("zone", "c"), ("gpu", "yes")])).unwrap_err();
        assert!(reason.ends_with("missing: `zone=c`"), "{reason}");
    }

    #[test]
    fn an_executor_that_lists_no_nodes_has_its_own_labels() {
        let bare = executor(json!({"node_labels": {"zone": "a"}}), json!([]));
        assert_eq!(fits(&bare, &labels(&[("zone", "a")])), Ok(None));
        assert!(fits(&bare, &labels(&[("zone", "b")])).is_err());
        for strange in [json!(7), json!("x"), json!({"id": 1}), Value::Null, json!([7, null, "x"])] {
            let odd = executor(json!({"node_labels": strange.clone()}), strange);
            assert_eq!(fits(&odd, &Labels::new()), Ok(None));
            assert!(fits(&odd, &labels(&[("zone", "a")])).is_err());
        }
    }
}
