//! `GET /api/v1/policy/audit/logs`

use super::{row, stamp};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::Parameters;
use crate::store::{Arg, Statement};
use axum::Json;
use axum::extract::State;
use edict_client::records::LoggedDecisions;
use edict_filter::Dialect;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;
use uuid::Uuid;

/// Decisions that a query returns unless it says otherwise.
const DEFAULT_LIMIT: u32 = 100;
/// Decisions that a query returns at most: each may hold 64 KiB of context.
const LARGEST_LIMIT: u32 = 1000;

/// Which decisions to return; all conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct LogQuery {
    /// Who asked.
    user_id: Option<String>,
    /// What was to be done.
    action: Option<String>,
    /// What it was to be done to.
    resource: Option<String>,
    /// The kind of request.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Whether the action was allowed.
    allowed: Option<bool>,
    /// The name of a decision policy that applied.
    policy: Option<String>,
    /// Made at this time or later, for example `2026-12-24T18:00:00Z`.
    since: Option<String>,
    /// Made before this time.
    until: Option<String>,
    /// Decisions to return, 1 to 1000; 100 when left out.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Finds recorded decisions, the newest first. It sees every decision whose reply has left this server before.
#[utoipa::path(
    get,
    path = "/api/v1/policy/audit/logs",
    tag = "log",
    params(LogQuery),
    responses((status = 200, body = LoggedDecisions), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(query): Parameters<LogQuery>,
) -> Result<Json<LoggedDecisions>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=LARGEST_LIMIT).contains(&limit) {
        return Err(invalid(&format!("`limit` must be between 1 and {LARGEST_LIMIT}, got `{limit}`")));
    }
    let store = &app.registry.store;
    let statement = query.statement(store.dialect(), limit)?;
    let pending = app.decision_log.catch_up().await?;
    let mut rows = store.search::<row::Columns>(statement).await?;
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let logs: Vec<_> = rows.into_iter().map(row::show).collect::<Result<_, _>>()?;
    let next = logs.last().filter(|_| has_more).map(|last| last.decision_id.clone());
    Ok(Json(LoggedDecisions { logs, has_more, next, pending }))
}

impl LogQuery {
    /// One row more than `limit`, to tell whether there are others.
    fn statement(&self, dialect: Dialect, limit: u32) -> Result<Statement, ApiError> {
        let mut conditions = vec!["true".to_owned()];
        let mut args: Vec<Arg> = Vec::new();
        let mut add = |condition: &dyn Fn(usize) -> String, arg: &str| {
            // As it is recorded: no text in the database holds one.
            args.push(arg.replace('\0', "\u{fffd}").into());
            conditions.push(condition(args.len()));
        };
        let columns = [
            ("user_id", &self.user_id),
            ("action", &self.action),
            ("resource", &self.resource),
            ("type", &self.kind),
        ];
        for (column, value) in columns {
            if let Some(value) = value {
                add(&|number| format!("{column} = ${number}"), value);
            }
        }
        if let Some(policy) = &self.policy {
            add(&|number| row::applied(dialect, number), policy);
        }
        // The order of ids is that of time, so that one index serves paging and times.
        for (name, operator, time) in [("since", ">=", &self.since), ("until", "<", &self.until)] {
            if let Some(time) = time {
                add(&|number| format!("id {operator} ${number}"), &first_id(name, time)?);
            }
        }
        if let Some(after) = &self.after {
            add(&|number| format!("id < ${number}"), &id("after", after)?);
        }
        match self.allowed {
            Some(true) => conditions.push("allowed".to_owned()),
            Some(false) => conditions.push("NOT allowed".to_owned()),
            None => {}
        }
        let (select, conditions, rows) = (row::SELECT, conditions.join(" AND "), limit + 1);
        let sql = format!("{select} WHERE {conditions} ORDER BY id DESC LIMIT {rows}");
        Ok(Statement::new(sql).bind_all(args))
    }
}

fn first_id(name: &str, text: &str) -> Result<String, ApiError> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        let shown = crate::shorten(text);
        invalid(&format!("`{name}` must be a time such as `2026-12-24T18:00:00Z`, got `{shown}`"))
    })?;
    let micros = i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
    Ok(stamp::first_id(micros).to_string())
}

/// A decision's id as the table has it.
fn id(name: &str, text: &str) -> Result<String, ApiError> {
    let id: Uuid = text.parse().map_err(|_| {
        invalid(&format!("`{name}` must be the id of a decision, got `{}`", crate::shorten(text)))
    })?;
    Ok(id.to_string())
}

fn invalid(problem: &str) -> ApiError {
    ApiError::new(Code::InvalidParameter, format!("query parameter {problem}"))
}
