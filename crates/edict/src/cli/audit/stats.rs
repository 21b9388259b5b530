//! `edict audit stats`

use super::super::failure::Failure;
use super::super::output::Output;
use clap::Args;
use edict_client::Client;
use edict_client::records::{AuditCount, AuditStatistics};

#[derive(Args)]
pub(super) struct StatsArgs {
    /// Asked for at this time or later: `2026-01-31T12:00:00Z`, or how long ago; `24h` when left out
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Asked for before this time; now when left out
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(super) async fn run(args: &StatsArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let figures = client.audit_statistics(args.since.as_deref(), args.until.as_deref()).await?;
    if out.is_json() {
        return out.json(&figures);
    }
    out.rows(&["", "", "ACTIONS"], rows(&figures))
}

fn rows(figures: &AuditStatistics) -> Vec<Vec<String>> {
    let row = |what: &str, value: &str, number: String| vec![what.to_owned(), value.to_owned(), number];
    let mut rows =
        vec![row("total", "", figures.total.to_string()), row("dry runs", "", figures.dry_runs.to_string())];
    let lists: [(&str, &[AuditCount]); 4] = [
        ("status", &figures.by_status),
        ("action", &figures.by_action_type),
        ("namespace", &figures.by_namespace),
        ("requested by", &figures.by_requester),
    ];
    for (what, counts) in lists {
        rows.extend(
            counts
                .iter()
                .map(|count| row(what, count.value.as_deref().unwrap_or("none"), count.count.to_string())),
        );
    }
    let percent = |ratio: Option<f64>| ratio.map(|ratio| format!("{:.1} %", ratio * 100.0));
    let milliseconds = |ms: Option<f64>| ms.map(|ms| format!("{ms:.0} ms"));
    #[expect(clippy::cast_precision_loss, reason = "it is shown in whole milliseconds")]
    let p95 = figures.p95_execution_duration.map(|ms| ms as f64);
    for (what, figure) in [
        ("success ratio", percent(figures.success_ratio)),
        ("denial rate", percent(figures.denial_rate)),
        ("average duration", milliseconds(figures.average_execution_duration)),
        ("p95 of durations", milliseconds(p95)),
    ] {
        rows.extend(figure.map(|figure| row(what, "", figure)));
    }
    rows.push(row("last entry", &figures.head.hash, figures.head.seq.to_string()));
    rows
}
