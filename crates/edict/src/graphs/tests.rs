//! Graphs over functions that are closures, and recorded runs.

use super::plan::Plan;
use super::recorder::Recorder;
use super::schedule::{Progress, Stop, Times};
use crate::error::{ApiError, Code};
use crate::store::{Statement, Store};
use edict_client::records::{GraphRun, NodeRun, RunStatus};
use proptest::prelude::*;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PATIENT: Times = Times { run: Duration::from_secs(60), node: None };

fn planned(ids: &str, edges: &[(&str, &str)]) -> Plan {
    let ids: Vec<String> = ids.split_whitespace().map(str::to_owned).collect();
    let edges = edges
        .iter()
        .map(|(from, to)| ((*from).to_owned(), to.split_whitespace().map(str::to_owned).collect::<Vec<_>>()));
    Plan::new(&ids, &edges.collect()).unwrap()
}

fn diamond() -> Plan {
    planned("a b c d", &[("a", "b c"), ("b", "d"), ("c", "d")])
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap()
}

/// What a node of these tests gives: its name, and what it got.
fn told(name: &str, input: &RawValue) -> Result<Box<RawValue>, ApiError> {
    Ok(raw(&json!({name: value(input)})))
}

fn statuses(nodes: &[NodeRun]) -> Vec<RunStatus> {
    nodes.iter().map(|node| node.status).collect()
}

#[tokio::test]
async fn nodes_get_what_the_contract_says() {
    let (plan, input) = (diamond(), raw(&json!(1)));
    let mut progress = Progress::new(&plan, &input, true);
    let output = progress.run(PATIENT, |name, input| async move { told(name, &input) }).await.unwrap();
    assert_eq!(value(&output), json!({"d": [{"b": {"a": 1}}, {"c": {"a": 1}}]}));
    let nodes = progress.nodes();
    assert_eq!(statuses(&nodes), [RunStatus::Completed; 4]);
    assert_eq!(value(nodes[3].input.as_deref().unwrap()), json!([{"b": {"a": 1}}, {"c": {"a": 1}}]));
    assert_eq!(value(nodes[1].output.as_deref().unwrap()), json!({"b": {"a": 1}}));
    assert!(nodes.iter().all(|node| node.started_ms.is_some() && node.duration_ms.is_some()));

    // Several roots and leaves, and a node of its own that is both.
    let plan = planned("x b a lone", &[("a", "x"), ("b", "x")]);
    let mut progress = Progress::new(&plan, &input, false);
    let output = progress.run(PATIENT, |name, input| async move { told(name, &input) }).await.unwrap();
    assert_eq!(output.get(), r#"{"x":{"x":[{"b":1},{"a":1}]},"lone":{"lone":1}}"#);
    assert!(progress.nodes().iter().all(|node| node.input.is_none() && node.output.is_none()));
}

#[tokio::test]
async fn independent_nodes_run_at_the_same_time() {
    let ids: Vec<String> = (0..500).map(|place| format!("n{place}")).collect();
    let plan = Plan::new(&ids, &BTreeMap::new()).unwrap();
    // Nobody gets past it before all are there.
    let barrier = tokio::sync::Barrier::new(500);
    let input = raw(&json!(null));
    let mut progress = Progress::new(&plan, &input, false);
    let output = progress
        .run(PATIENT, |name, input| {
            let barrier = &barrier;
            async move {
                barrier.wait().await;
                told(name, &input)
            }
        })
        .await
        .unwrap();
    assert_eq!(value(&output).as_object().unwrap().len(), 500);
}

/// Counts calls that were dropped before they ended.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_failing_node_ends_the_run_and_what_is_under_way() {
    let (plan, input, dropped) = (diamond(), raw(&json!(1)), AtomicUsize::new(0));
    let mut progress = Progress::new(&plan, &input, false);
    let stop = progress
        .run(PATIENT, |name, input| {
            let under_way = UnderWay(&dropped);
            async move {
                match name {
                    "b" => Err(ApiError::new(Code::PolicyFailed, "no")),
                    "c" => std::future::pending().await,
                    _ => {
                        std::mem::forget(under_way);
                        told(name, &input)
                    }
                }
            }
        })
        .await
        .unwrap_err();
    assert!(matches!(stop, Stop::Node { node: 1, error } if error.code() == Code::PolicyFailed));
    assert_eq!(dropped.load(Ordering::Relaxed), 2, "the one that failed, and the one under way");
    let nodes = progress.nodes();
    use RunStatus::{Cancelled, Completed, Failed, Skipped};
    assert_eq!(statuses(&nodes), [Completed, Failed, Cancelled, Skipped]);
    assert_eq!(nodes[1].error.as_ref().unwrap().code, "policy_failed");
    assert!(nodes[3].started_ms.is_none() && nodes[3].duration_ms.is_none());
}

#[tokio::test]
async fn time_runs_out_for_a_node_or_for_the_run() {
    let (plan, input) = (diamond(), raw(&json!(1)));
    let slow = |name: &'static str| {
        move |node: &str, input: super::schedule::Input<'_>| {
            let result = told(node, &input);
            let waits = node == name;
            async move { if waits { std::future::pending().await } else { result } }
        }
    };
    let times = Times { node: Some(Duration::from_millis(5)), ..PATIENT };
    let mut progress = Progress::new(&plan, &input, false);
    let stop = progress.run(times, slow("c")).await.unwrap_err();
    assert!(matches!(stop, Stop::Node { node: 2, error } if error.code() == Code::NodeTimeout));
    assert_eq!(progress.nodes()[2].error.as_ref().unwrap().code, "node_timeout");

    let times = Times { run: Duration::from_millis(5), node: None };
    let mut progress = Progress::new(&plan, &input, false);
    let stop = progress.run(times, slow("b")).await.unwrap_err();
    assert!(matches!(stop, Stop::Timeout { nodes } if nodes == [1]));
    assert_eq!(progress.nodes()[1].status, RunStatus::Cancelled);
}

/// A graph without cycles: edges lead from lower to higher numbers, and the list of nodes is shuffled.
fn graphs() -> impl Strategy<Value = (Vec<String>, BTreeMap<String, Vec<String>>)> {
    (1..30_usize).prop_flat_map(|count| {
        let edges = proptest::collection::btree_set((0..count, 0..count), 0..count * 3);
        let ids: Vec<String> = (0..count).map(|place| format!("n{place}")).collect();
        (Just(ids).prop_shuffle(), edges).prop_map(|(ids, edges)| {
            let mut connections: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (from, to) in edges.into_iter().filter(|(from, to)| from < to) {
                connections.entry(format!("n{from}")).or_default().push(format!("n{to}"));
            }
            (ids, connections)
        })
    })
}

/// A short text that tells a node and everything that led to its input.
fn digest(name: &str, input: &str) -> Box<RawValue> {
    use sha2::{Digest, Sha256};
    raw(&json!(hex::encode(Sha256::digest(format!("{name}({input})")))))
}

/// The contract, read naively: from the leaves back.
fn naive(
    node: &str,
    ids: &[String],
    edges: &BTreeMap<String, Vec<String>>,
    input: &str,
    known: &mut BTreeMap<String, String>,
) -> String {
    if let Some(known) = known.get(node) {
        return known.clone();
    }
    let feeds = |id: &&String| edges.get(*id).is_some_and(|to| to.iter().any(|to| to == node));
    let parents: Vec<&String> = ids.iter().filter(feeds).collect();
    let outputs: Vec<String> = parents.iter().map(|parent| naive(parent, ids, edges, input, known)).collect();
    let got = match outputs.as_slice() {
        [] => input.to_owned(),
        [only] => only.clone(),
        several => format!("[{}]", several.join(",")),
    };
    let output = digest(node, &got).get().to_owned();
    known.insert(node.to_owned(), output.clone());
    output
}

proptest! {
    #[test]
    fn any_graph_gives_what_the_naive_reading_gives((ids, edges) in graphs(), delays in any::<u64>()) {
        let input = raw(&json!({"x": 1}));
        let plan = Plan::new(&ids, &edges).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut progress = Progress::new(&plan, &input, false);
        let output = runtime.block_on(progress.run(PATIENT, |name, input| async move {
            // Calls end in any order.
            for _ in 0..(delays >> (name.len() * 7 + usize::from(name.as_bytes()[name.len() - 1]) % 32)) % 5 {
                tokio::task::yield_now().await;
            }
            Ok(digest(name, input.get()))
        })).unwrap();
        let mut known = BTreeMap::new();
        let leaves: Vec<&String> = ids.iter().filter(|id| !edges.contains_key(*id)).collect();
        let mut expected: Vec<(&String, String)> =
            leaves.iter().map(|leaf| (*leaf, naive(leaf, &ids, &edges, input.get(), &mut known))).collect();
        let expected = if expected.len() == 1 {
            expected.remove(0).1
        } else {
            let members: Vec<String> = expected.iter().map(|(leaf, output)| format!("\"{leaf}\":{output}")).collect();
            format!("{{{}}}", members.join(","))
        };
        prop_assert_eq!(output.get(), expected);
        // Every node is in one stage, behind all that feed it.
        let stages = plan.stages();
        let mut seen = BTreeSet::new();
        for stage in &stages {
            for node in stage {
                prop_assert!(plan.nodes[*node].parents.iter().all(|parent| seen.contains(parent)));
            }
            seen.extend(stage.iter().copied());
        }
        prop_assert_eq!(seen.len(), ids.len());
    }

    #[test]
    fn an_edge_back_is_always_found((ids, mut edges) in graphs(), pick in any::<prop::sample::Index>()) {
        let forward: Vec<(String, String)> = edges
            .iter()
            .flat_map(|(from, targets)| targets.iter().map(move |to| (from.clone(), to.clone())))
            .collect();
        prop_assume!(!forward.is_empty());
        let (from, to) = pick.get(&forward).clone();
        edges.entry(to).or_default().push(from);
        let fault = Plan::new(&ids, &edges).unwrap_err();
        prop_assert_eq!(fault.nodes.first(), fault.nodes.last());
        for step in fault.nodes.windows(2) {
            prop_assert!(edges[&step[0]].contains(&step[1]), "{} does not feed {}", &step[0], &step[1]);
        }
    }
}

fn run(id: usize, output: Value) -> GraphRun {
    GraphRun {
        run_id: format!("run-{id:04}"),
        graph_uri: "g:1-t".to_owned(),
        graph_revision: 1,
        run_status: RunStatus::Completed,
        input_data: raw(&json!(id)),
        output: Some(raw(&output)),
        error: None,
        started_at: crate::now(),
        duration_ms: 1.0,
        nodes: Vec::new(),
    }
}

async fn store(folder: &tempfile::TempDir) -> Store {
    Store::open_private(folder.path()).await.unwrap()
}

async fn recorded(store: &Store) -> Vec<(String, String)> {
    store.fetch(Statement::new("SELECT key, doc FROM graph_runs ORDER BY key")).await.unwrap()
}

#[tokio::test]
async fn runs_are_written_together_and_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let recorder = Recorder::new(store.clone());
    for id in 0..600 {
        recorder.record(run(id, json!(id))).await;
    }
    assert!(recorded(&store).await.is_empty(), "nobody has written yet");
    recorder.flush().await.unwrap();
    let rows = recorded(&store).await;
    assert_eq!(rows.len(), 600);
    assert_eq!(serde_json::from_str::<Value>(&rows[599].1).unwrap()["output"], 599);
    // Written twice, because the first time could not be told, it is there once.
    recorder.record(run(0, json!(0))).await;
    recorder.flush().await.unwrap();
    assert_eq!(recorded(&store).await.len(), 600);
    store.close().await;
}

#[tokio::test]
async fn runs_are_written_a_moment_later_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let recorder = Recorder::new(store.clone());
    recorder.record(run(1, json!(1))).await;
    let wait = async {
        while recorded(&store).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = recorder.write_behind() => {}
        () = wait => {}
    }
    store.close().await;
}

#[tokio::test]
async fn one_that_the_database_cannot_hold_does_not_take_others_along() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let recorder = Recorder::new(store.clone());
    recorder.record(run(1, json!("before"))).await;
    let mut deep = run(2, json!(0));
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    deep.output = Some(RawValue::from_string(nested).unwrap());
    recorder.record(deep).await;
    recorder.record(run(3, json!("after"))).await;
    recorder.flush().await.unwrap();
    let rows: Vec<Value> =
        recorded(&store).await.iter().map(|(_, doc)| serde_json::from_str(doc).unwrap()).collect();
    let outputs: Vec<&Value> = rows.iter().map(|row| &row["output"]).collect();
    assert_eq!(outputs, [&json!("before"), &Value::Null, &json!("after")]);
    store.close().await;
}

#[tokio::test]
async fn a_database_that_is_away_makes_callers_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let recorder = Recorder::new(store.clone());
    store.close().await;
    let large = json!("x".repeat(1 << 20));
    for id in 0..64 {
        recorder.record(run(id, large.clone())).await;
    }
    let one_more = recorder.record(run(64, json!(0)));
    assert!(tokio::time::timeout(Duration::from_millis(50), one_more).await.is_err(), "there is no room");
    assert!(recorder.flush().await.is_err());
}
