//! What Prometheus is told about the audit trail.

use std::time::Duration;

pub(super) fn describe() {
    metrics::describe_counter!(
        "edict_audit_entries_total",
        "Entries written into the audit trail, by status"
    );
    metrics::describe_histogram!("edict_audit_append_seconds", "Time to write an entry into the audit trail");
    metrics::describe_gauge!("edict_audit_chain_length", "Number of the audit trail's last entry");
}

/// An entry was written.
pub(super) fn written(status: String, seq: i64, took: Duration) {
    metrics::counter!("edict_audit_entries_total", "status" => status).increment(1);
    metrics::histogram!("edict_audit_append_seconds").record(took.as_secs_f64());
    length(seq);
}

/// The chain is so long.
pub(super) fn length(seq: i64) {
    #[expect(clippy::cast_precision_loss, reason = "an audit trail is far from where floats lose digits")]
    metrics::gauge!("edict_audit_chain_length").set(seq as f64);
}
