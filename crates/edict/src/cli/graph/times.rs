//! What a run says of each node, for drawings and tables.

use edict_client::records::{GraphRun, NodeRun, RunStatus};
use std::collections::HashMap;

/// What each node did in a run.
pub(super) struct Times<'a>(HashMap<&'a str, &'a NodeRun>);

/// What one node did.
pub(super) struct Time<'a>(&'a NodeRun);

impl<'a> Times<'a> {
    pub(super) fn of_run(run: &'a GraphRun) -> Self {
        Self(run.nodes.iter().map(|node| (node.node.as_str(), node)).collect())
    }

    /// None for a node that the graph did not have then.
    pub(super) fn of(&self, node: &str) -> Option<Time<'a>> {
        self.0.get(node).map(|run| Time(run))
    }
}

impl<'a> Time<'a> {
    pub(super) fn run(&self) -> &'a NodeRun {
        self.0
    }

    /// How it went and how long it took, in a few words.
    pub(super) fn text(&self) -> String {
        let took = self.0.duration_ms.map_or_else(String::new, milliseconds);
        match self.0.status {
            RunStatus::Completed => took,
            RunStatus::Failed => format!("✗ {took}"),
            other => word(other).to_owned(),
        }
    }
}

/// `1.2 ms`, `340 ms`, `12.3 s`.
pub(super) fn milliseconds(number: f64) -> String {
    match number {
        ..9.95 => format!("{number:.1} ms"),
        ..9999.5 => format!("{number:.0} ms"),
        _ => format!("{:.1} s", number / 1e3),
    }
}

/// How a run or a node of it ended, as it travels over the wire.
pub(super) const fn word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "completed",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
        RunStatus::Skipped => "skipped",
    }
}
