//! `GET /audit/logs`

use super::logs::{self, COLUMNS, FROM, Log};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, Parameters, Reply};
use crate::store::{Arg, Statement, Store};
use axum::extract::State;
use edict_client::records::{AuditLog, AuditStatus};
use serde::Deserialize;
use utoipa::IntoParams;

/// Actions in a reply, unless said otherwise.
const USUAL: u32 = 100;

/// Actions in a reply at most.
const MOST: u32 = 1000;

/// Which actions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Filter {
    /// Who asked for it.
    requested_by: Option<String>,
    /// For example `restart_pod`.
    action_type: Option<String>,
    /// Where it stands now.
    status: Option<AuditStatus>,
    namespace: Option<String>,
    /// `pod` or `deployment`.
    resource_type: Option<String>,
    resource_name: Option<String>,
    /// Only dry runs, or none.
    dry_run: Option<bool>,
    /// Asked for at this time or later: RFC 3339, or how long ago, such as `24h`.
    since: Option<String>,
    /// Asked for before this time.
    until: Option<String>,
    /// Actions to return, 1 to 1000; 100 when left out. `has_more` in the reply says whether there are others.
    limit: Option<u32>,
    /// Only those behind this one in the list: the id of the last one of the page before.
    before: Option<String>,
}

/// Lists actions that were asked for, the newest first.
#[utoipa::path(
    get,
    path = "/audit/logs",
    tag = "audit",
    params(Filter),
    responses((status = 200, body = Reply<Vec<AuditLog>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Data<Vec<AuditLog>>, ApiError> {
    let limit = filter.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::new(
            Code::InvalidParameter,
            format!("query parameter `limit`: `{limit}` is not between 1 and {MOST}"),
        ));
    }
    let store = &app.registry.store;
    let mut found = store.search::<Log>(filter.statement(store, limit).await?).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    Ok(Data::new(found.into_iter().map(Log::record).collect()).has_more(more))
}

impl Filter {
    async fn statement(&self, store: &Store, limit: u32) -> Result<Statement, ApiError> {
        let dialect = store.dialect();
        let created = logs::created(dialect);
        let mut sql = format!("SELECT {COLUMNS} {FROM}");
        let mut args: Vec<Arg> = Vec::new();
        let status = self.status.map(|status| status.as_str().to_owned());
        for (column, value) in [
            ("first.requested_by", &self.requested_by),
            ("first.action_type", &self.action_type),
            ("latest.status", &status),
            ("first.namespace", &self.namespace),
            ("first.resource_type", &self.resource_type),
            ("first.resource_name", &self.resource_name),
        ] {
            if let Some(value) = value {
                // No text that the trail keeps holds one, and PostgreSQL takes none that does.
                args.push(value.replace('\0', "\\u{0}").into());
                sql.push_str(&format!(" AND {column} = ${}", args.len()));
            }
        }
        match self.dry_run {
            Some(true) => sql.push_str(" AND first.dry_run"),
            Some(false) => sql.push_str(" AND NOT first.dry_run"),
            None => {}
        }
        for (name, operator, value) in [("since", ">=", &self.since), ("until", "<", &self.until)] {
            if let Some(value) = value {
                args.push(logs::time(name, value)?.into());
                sql.push_str(&format!(" AND {created} {operator} {}", logs::instant(dialect, args.len())));
            }
        }
        if let Some(id) = &self.before {
            let (at, seq) = place(store, id).await?;
            args.extend([at.into(), seq.into()]);
            let (at, seq) = (args.len() - 1, args.len());
            let instant = logs::instant(dialect, at);
            sql.push_str(&format!(
                " AND {created} <= {instant} AND (first.at < ${at} OR first.seq < ${seq})"
            ));
        }
        args.push(i64::from(limit + 1).into());
        sql.push_str(&format!(" ORDER BY {created} DESC, first.seq DESC LIMIT ${}", args.len()));
        Ok(Statement::new(sql).bind_all(args))
    }
}

/// Where an action stands in the list.
async fn place(store: &Store, id: &str) -> Result<(i64, i64), ApiError> {
    let sql = "SELECT at, seq FROM audit_entries WHERE action_id = $1 AND step = 1";
    let place = store.fetch_one(Statement::new(sql).bind(id.replace('\0', ""))).await?;
    place.ok_or_else(|| super::read::missing(id))
}
