//! What is counted of actions. No text of a caller becomes a label: it could fill the server's memory.

use super::parameters::ACTIONS;
use crate::error::Code;
use metrics::Counter;
use std::time::Duration;

/// Stands for actions and namespaces that are not known.
const OTHER: &str = "other";

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

/// The refusals that alerts watch for.
const WATCHED: [Code; 9] = [
    Code::RateLimited,
    Code::SignatureMissing,
    Code::SignatureInvalid,
    Code::SignatureStale,
    Code::SignatureReplayed,
    Code::EngineUnavailable,
    Code::ClusterUnavailable,
    Code::ClusterRefused,
    Code::ClusterTimeout,
];

/// Names the metrics once, at the start, and has those that alerts watch begin at 0: of a counter that comes into being
/// with its first failure, Prometheus sees no increase.
pub(super) fn begin(namespaces: &[String]) {
    describe();
    for action in ACTIONS {
        for namespace in namespaces.iter().filter(|namespace| *namespace != "*") {
            for ended in [Ended::Completed, Ended::Failed] {
                counter(action, namespace, ended).increment(0);
            }
        }
    }
    for action in ACTIONS.into_iter().chain([OTHER]) {
        for code in WATCHED {
            refusals(action, code).increment(0);
        }
    }
}

fn describe() {
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
    let namespace = namespace.unwrap_or(OTHER);
    counter(action, namespace, ended).increment(1);
    if let Some(took) = took {
        let labels = labels(action, namespace, ended);
        metrics::histogram!("edict_action_duration_seconds", &labels).record(took.as_secs_f64());
    }
}

/// Counts why an action was refused or failed.
pub(super) fn count_refusal(action: &str, code: Code) {
    refusals(action, code).increment(1);
}

fn counter(action: &str, namespace: &str, ended: Ended) -> Counter {
    metrics::counter!("edict_actions_total", &labels(action, namespace, ended))
}

fn labels(action: &str, namespace: &str, ended: Ended) -> [(&'static str, String); 3] {
    [
        ("action", known(action).to_owned()),
        ("namespace", namespace.to_owned()),
        ("result", ended.as_str().to_owned()),
    ]
}

fn refusals(action: &str, code: Code) -> Counter {
    metrics::counter!("edict_action_refusals_total", &[("action", known(action)), ("reason", code.as_str())])
}

fn known(action: &str) -> &'static str {
    ACTIONS.into_iter().find(|known| *known == action).unwrap_or(OTHER)
}
