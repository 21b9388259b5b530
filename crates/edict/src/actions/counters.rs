//! What is counted of actions. No text of a caller becomes a label: it could fill the server's memory.

use super::parameters::ACTIONS;
use crate::error::Code;
use std::time::Duration;

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Completed,
    Failed,
    Rejected,
    /// A dry run that the cluster did not mind; others count as failed or rejected.
    DryRun,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::DryRun => "dry_run",
        }
    }
}

/// Names the metrics once, at the start.
pub(super) fn describe() {
    metrics::describe_counter!(
        "edict_actions_total",
        "Requests for actions, by action, namespace and result: completed, failed, rejected, dry_run"
    );
    metrics::describe_histogram!(
        "edict_action_duration_seconds",
        "Time from a request's acceptance to the end of its action, by action, namespace and result"
    );
    metrics::describe_counter!(
        "edict_action_refusals_total",
        "Rejected and failed actions, by action and reason (the code of the error)"
    );
}

/// Counts an action. `namespace` is one that the server's operator has named, or in which something was found.
pub(super) fn count(action: &str, namespace: Option<&str>, ended: Ended, took: Option<Duration>) {
    let namespace = namespace.unwrap_or("other").to_owned();
    let labels = [
        ("action", known(action).to_owned()),
        ("namespace", namespace),
        ("result", ended.as_str().to_owned()),
    ];
    metrics::counter!("edict_actions_total", &labels).increment(1);
    if let Some(took) = took {
        metrics::histogram!("edict_action_duration_seconds", &labels).record(took.as_secs_f64());
    }
}

/// Counts why an action was refused or failed.
pub(super) fn count_refusal(action: &str, code: Code) {
    let labels = [("action", known(action)), ("reason", code.as_str())];
    metrics::counter!("edict_action_refusals_total", &labels).increment(1);
}

fn known(action: &str) -> &'static str {
    ACTIONS.into_iter().find(|known| *known == action).unwrap_or("other")
}
