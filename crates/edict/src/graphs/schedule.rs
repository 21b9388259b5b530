//! Runs a plan: every node as soon as its inputs are there, those that do not wait for one another at the same time.
//!
//! All of it happens in one task: what a node costs here is a push and a pop, however long the chain is. What a node
//! gave is shared, not copied, and let go when the last node that needs it has started.

use super::plan::Plan;
use crate::error::{ApiError, Code};
use edict_client::records::{NodeRun, RunStatus};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// What a node gave: moved in, shared by those that need it.
type Output = Arc<Box<RawValue>>;

/// What a node gets.
#[derive(Clone)]
pub(super) enum Input<'a> {
    /// The graph's own input.
    Given(&'a RawValue),
    /// The output of its parent, or a list of the outputs of several.
    Made(Output),
}

impl Deref for Input<'_> {
    type Target = RawValue;

    fn deref(&self) -> &RawValue {
        match self {
            Self::Given(input) => input,
            Self::Made(output) => output,
        }
    }
}

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) run: Duration,
    /// For each node; the run's when it is None.
    pub(super) node: Option<Duration>,
}

/// Why a run gave no output.
#[derive(Debug)]
pub(super) enum Stop {
    /// `node_timeout` when its own time was over.
    Node { node: usize, error: ApiError },
    /// The run's own time is over; these nodes were under way.
    Timeout { nodes: Vec<usize> },
    /// What the run made cannot be put together.
    Broken(ApiError),
}

/// What is known of a run while it goes on, and after it.
pub(super) struct Progress<'a> {
    plan: &'a Plan,
    input: &'a RawValue,
    /// Whether inputs and outputs are kept for the record.
    trace: bool,
    started: Instant,
    nodes: Vec<State>,
}

/// What is known of one node.
#[derive(Default)]
struct State {
    /// Inputs that are not there yet.
    missing: usize,
    /// Nodes that have not started and need the output.
    needed_by: usize,
    output: Option<Output>,
    started: Option<Duration>,
    duration: Option<Duration>,
    status: Option<RunStatus>,
    error: Option<ApiError>,
    /// What it got and gave, when the run is traced.
    traced: Option<(Box<RawValue>, Option<Output>)>,
}

/// A call that has ended, in one way or another.
struct Ended {
    node: usize,
    result: Result<Box<RawValue>, ApiError>,
    started: Duration,
    duration: Duration,
}

impl<'a> Progress<'a> {
    pub(super) fn new(plan: &'a Plan, input: &'a RawValue, trace: bool) -> Self {
        let state = |node: &super::plan::Node| State {
            missing: node.parents.len(),
            needed_by: node.children.len(),
            ..State::default()
        };
        Self { plan, input, trace, started: Instant::now(), nodes: plan.nodes.iter().map(state).collect() }
    }

    /// Milliseconds since the run began.
    pub(super) fn elapsed(&self) -> f64 {
        milliseconds(self.started.elapsed())
    }

    /// Runs the plan. `call` calls the function of a node with its input; dropping what it returns cancels the call.
    ///
    /// # Errors
    /// Why there is no output. Nodes that were under way then are cancelled.
    pub(super) async fn run<F>(
        &mut self,
        times: Times,
        call: impl Fn(&'a str, Input<'a>) -> F,
    ) -> Result<Box<RawValue>, Stop>
    where
        F: Future<Output = Result<Box<RawValue>, ApiError>>,
    {
        let end = self.started.checked_add(times.run);
        let mut under_way = FuturesUnordered::new();
        let begun = self.started;
        let start = |node: usize, name: &'a str, input: Input<'a>| {
            let started = begun.elapsed();
            let called = call(name, input);
            async move {
                let result = match times.node {
                    Some(limit) => {
                        timeout(limit, called).await.unwrap_or_else(|_| Err(too_slow(name, limit)))
                    }
                    None => called.await,
                };
                Ended { node, result, started, duration: begun.elapsed().saturating_sub(started) }
            }
        };
        for root in self.plan.roots() {
            if let Some((name, input)) = self.begin(root).map_err(Stop::Broken)? {
                under_way.push(start(root, name, input));
            }
        }
        while !under_way.is_empty() {
            let next = match end {
                Some(end) => timeout_at(end, under_way.next()).await,
                None => Ok(under_way.next().await),
            };
            let Ok(ended) = next else { return Err(Stop::Timeout { nodes: self.under_way() }) };
            let Some(ended) = ended else { break };
            for child in self.end(ended)? {
                if let Some((name, input)) = self.begin(child).map_err(Stop::Broken)? {
                    under_way.push(start(child, name, input));
                }
            }
        }
        self.output().map_err(Stop::Broken)
    }

    /// A node starts: its name and its input.
    fn begin(&mut self, place: usize) -> Result<Option<(&'a str, Input<'a>)>, ApiError> {
        let Some(node) = self.plan.nodes.get(place) else { return Ok(None) };
        let outputs: Vec<Output> = node.parents.iter().filter_map(|parent| self.take(*parent)).collect();
        let input = match outputs.as_slice() {
            [] => Input::Given(self.input),
            [only] => Input::Made(Arc::clone(only)),
            several => {
                let list: Vec<&RawValue> = several.iter().map(|output| &***output).collect();
                Input::Made(Arc::new(to_raw_value(&list).map_err(ApiError::internal)?))
            }
        };
        let started = self.started.elapsed();
        if let Some(state) = self.nodes.get_mut(place) {
            state.started = Some(started);
            state.traced = self.trace.then(|| ((*input).to_owned(), None));
        }
        Ok(Some((&node.name, input)))
    }

    /// A parent's output; the last one who needs it takes it away.
    fn take(&mut self, parent: usize) -> Option<Output> {
        let state = self.nodes.get_mut(parent)?;
        state.needed_by = state.needed_by.saturating_sub(1);
        if state.needed_by == 0 { state.output.take() } else { state.output.clone() }
    }

    /// A node ended: the nodes that can start now.
    fn end(&mut self, ended: Ended) -> Result<Vec<usize>, Stop> {
        let Ended { node: place, result, started, duration } = ended;
        let (Some(node), Some(state)) = (self.plan.nodes.get(place), self.nodes.get_mut(place)) else {
            return Ok(Vec::new());
        };
        state.started = Some(started);
        state.duration = Some(duration);
        let output = match result {
            Ok(output) => Arc::new(output),
            Err(error) => {
                state.status = Some(RunStatus::Failed);
                state.error = Some(error.clone());
                return Err(Stop::Node { node: place, error });
            }
        };
        state.status = Some(RunStatus::Completed);
        if let Some((_, traced)) = &mut state.traced {
            *traced = Some(Arc::clone(&output));
        }
        state.output = Some(output);
        let mut ready = Vec::new();
        for child in &node.children {
            if let Some(child_state) = self.nodes.get_mut(*child) {
                child_state.missing = child_state.missing.saturating_sub(1);
                if child_state.missing == 0 {
                    ready.push(*child);
                }
            }
        }
        Ok(ready)
    }

    fn under_way(&self) -> Vec<usize> {
        let states = self.nodes.iter().enumerate();
        states
            .filter(|(_, state)| state.started.is_some() && state.status.is_none())
            .map(|(place, _)| place)
            .collect()
    }

    /// The output of the only leaf, or an object by leaf.
    fn output(&mut self) -> Result<Box<RawValue>, ApiError> {
        let mut outputs: Vec<(&str, Output)> = Vec::new();
        for leaf in self.plan.leaves() {
            let (node, state) = (self.plan.nodes.get(leaf), self.nodes.get_mut(leaf));
            if let (Some(node), Some(output)) = (node, state.and_then(|state| state.output.take())) {
                outputs.push((&node.name, output));
            }
        }
        if outputs.len() == 1
            && let Some((_, output)) = outputs.pop()
        {
            return Ok(Arc::try_unwrap(output).unwrap_or_else(|shared| (*shared).clone()));
        }
        to_raw_value(&ByLeaf(&outputs)).map_err(ApiError::internal)
    }

    /// What each node did, for the record.
    pub(super) fn nodes(&self) -> Vec<NodeRun> {
        let ended = self.started.elapsed();
        let run = |(node, state): (&super::plan::Node, &State)| {
            let begun = state.started;
            let status = state.status.unwrap_or(match begun {
                Some(_) => RunStatus::Cancelled,
                None => RunStatus::Skipped,
            });
            let duration = state.duration.or_else(|| begun.map(|begun| ended.saturating_sub(begun)));
            let traced = state.traced.as_ref();
            NodeRun {
                node: node.name.clone(),
                status,
                started_ms: begun.map(milliseconds),
                duration_ms: duration.map(milliseconds),
                input: traced.map(|(input, _)| input.clone()),
                output: traced.and_then(|(_, output)| output.as_ref()).map(|output| (**output).clone()),
                error: state.error.clone().map(Into::into),
            }
        };
        self.plan.nodes.iter().zip(&self.nodes).map(run).collect()
    }
}

fn too_slow(name: &str, limit: Duration) -> ApiError {
    let message = format!("node `{name}` took longer than its `node_timeout` of {} s", limit.as_secs_f64());
    ApiError::new(Code::NodeTimeout, message)
}

/// Outputs of several leaves, as an object in the order of the nodes.
struct ByLeaf<'a>(&'a [(&'a str, Output)]);

impl Serialize for ByLeaf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, output) in self.0 {
            map.serialize_entry(name, &***output)?;
        }
        map.end()
    }
}

/// Milliseconds with three digits behind the point: more is noise.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
