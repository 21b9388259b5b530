//! `GET /audit/statistics`

use super::logs::{self, FROM};
use super::{entries, metrics};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Parameters, Reply};
use crate::store::{Statement, Store};
use axum::extract::State;
use edict_client::records::{AuditCount, AuditStatistics};
use serde::Deserialize;
use std::collections::HashMap;
use utoipa::IntoParams;

/// Values of a kind that are listed.
const TOP: usize = 20;

/// Of which time.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    /// Actions asked for at this time or later: RFC 3339, or how long ago; `24h` when left out.
    since: Option<String>,
    /// Actions asked for before this time; now when left out.
    until: Option<String>,
}

/// Returns figures of the actions of a time: how many, by whom, where, how they ended and how long they took.
#[utoipa::path(
    get,
    path = "/audit/statistics",
    tag = "audit",
    params(Span),
    responses((status = 200, body = Reply<AuditStatistics>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn statistics(
    _: Viewer,
    State(app): State<App>,
    Parameters(span): Parameters<Span>,
) -> Result<Data<AuditStatistics>, ApiError> {
    let since = logs::time("since", span.since.as_deref().unwrap_or("24h"))?;
    let until = span.until.as_deref().map_or(Ok(crate::now_micros()), |until| logs::time("until", until))?;
    let store = &app.registry.store;
    let head = entries::head(store).await?.unwrap_or_default();
    metrics::length(head.seq);
    let mut figures = figures(store, since, until).await?;
    let mut counts = |what: &str| {
        let mut counts: Vec<AuditCount> = figures
            .remove(what)
            .unwrap_or_default()
            .into_iter()
            .map(|(value, count)| AuditCount { value, count: u64::try_from(count).unwrap_or(0) })
            .collect();
        counts.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.value.cmp(&other.value)));
        counts
    };
    let by_status = counts("status");
    let (by_action_type, by_namespace, by_requester) =
        (counts("action_type"), counts("namespace"), counts("requested_by"));
    let mut number = |what: &str| figures.remove(what).and_then(|mut rows| rows.pop()).map_or(0, |(_, n)| n);
    let (dry_runs, denied, timed) = (number("dry_runs"), number("denied"), number("timed"));
    let (spent, p95) = (number("spent"), number("p95"));
    let of = |status: &str| {
        by_status.iter().find(|count| count.value.as_deref() == Some(status)).map_or(0, |count| count.count)
    };
    let total: u64 = by_status.iter().map(|count| count.count).sum();
    let (completed, failed) = (of("completed"), of("failed"));
    Ok(Data::new(AuditStatistics {
        since: logs::moment(since),
        until: logs::moment(until),
        total,
        dry_runs: u64::try_from(dry_runs).unwrap_or(0),
        success_ratio: ratio(completed, completed + failed),
        denial_rate: ratio(u64::try_from(denied).unwrap_or(0), total),
        average_execution_duration: ratio(
            u64::try_from(spent).unwrap_or(0),
            u64::try_from(timed).unwrap_or(0),
        ),
        p95_execution_duration: (timed > 0).then_some(p95),
        by_status,
        by_action_type,
        by_namespace,
        by_requester,
        head,
    }))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far from where floats lose digits")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Values with how often they occur, by what they are.
pub(super) type Figures = HashMap<String, Vec<(Option<String>, i64)>>;

/// All in one statement, so that the figures belong to one state of the trail.
pub(super) async fn figures(store: &Store, since: i64, until: i64) -> Result<Figures, ApiError> {
    let dialect = store.dialect();
    let (created, from, to) = (logs::created(dialect), logs::instant(dialect, 1), logs::instant(dialect, 2));
    let top = |column: &str| {
        format!(
            "SELECT * FROM (SELECT '{column}' AS what, {column} AS value, count(*) AS number FROM actions \
             GROUP BY {column} ORDER BY number DESC LIMIT {TOP}) AS top_{column}"
        )
    };
    let one = |what: &str, number: &str| {
        format!("SELECT '{what}', CAST(NULL AS text), CAST({number} AS bigint) FROM actions")
    };
    // The p95 is the shortest duration that 95 of 100 do not exceed.
    let p95 = "(SELECT execution_ms FROM actions WHERE execution_ms IS NOT NULL ORDER BY execution_ms \
               LIMIT 1 OFFSET (SELECT (95 * count(execution_ms) - 1) / 100 FROM actions))";
    let parts = [
        top("status"),
        top("action_type"),
        top("namespace"),
        top("requested_by"),
        one("dry_runs", "count(CASE WHEN dry_run THEN 1 END)"),
        one("denied", "count(CASE WHEN error_code = 'action_not_allowed' THEN 1 END)"),
        one("timed", "count(execution_ms)"),
        one("spent", "coalesce(sum(execution_ms), 0)"),
        format!("SELECT 'p95', CAST(NULL AS text), CAST(coalesce({p95}, 0) AS bigint)"),
    ];
    let sql = format!(
        "WITH actions AS MATERIALIZED (SELECT first.action_type, first.namespace, first.requested_by, first.dry_run, \
         latest.status, latest.error_code, latest.execution_ms {FROM} AND {created} >= {from} AND {created} < {to}) {}",
        parts.join(" UNION ALL ")
    );
    let mut figures = Figures::new();
    let statement = Statement::new(sql).bind(since).bind(until);
    for (what, value, count) in store.search::<(String, Option<String>, i64)>(statement).await? {
        figures.entry(what).or_default().push((value, count));
    }
    Ok(figures)
}
