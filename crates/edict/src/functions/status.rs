//! `PUT /function/<function_id>/status`

use super::FUNCTIONS;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Path, Reply};
use crate::store::{Statement, Store};
use axum::extract::State;
use edict_client::records::FunctionStatus;
use edict_filter::Dialect;
use serde_json::json;

/// Tells what a function's replicas are doing. For executors.
#[utoipa::path(
    put,
    path = "/function/{function_id}/status",
    tag = "functions",
    params(("function_id" = String, Path)),
    request_body = FunctionStatus,
    responses((status = 200, body = Reply<FunctionStatus>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn report(
    _: Operator,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(status): Body<FunctionStatus>,
) -> Result<Data<FunctionStatus>, ApiError> {
    write(&app.registry.store, &name, &status).await?;
    app.functions.reported();
    Ok(Data::new(status))
}

/// An executor has another id or address now: its functions' records follow.
pub(crate) fn follow(dialect: Dialect, (from, to): (&str, &str), address: Option<&str>) -> Statement {
    let assign = match dialect {
        Dialect::Sqlite => {
            "json_set(doc, '$.function_executor_id', $1, '$.function_executor_uri', nullif($2, ''))"
        }
        Dialect::Postgres => {
            "jsonb_set(jsonb_set(doc, '{function_executor_id}', to_jsonb($1::text)), '{function_executor_uri}', \
             coalesce(to_jsonb(nullif($2::text, '')), 'null'))"
        }
    };
    let sql = format!("UPDATE functions SET doc = {assign} WHERE function_executor_id = $3");
    Statement::new(sql).bind(to).bind(address.unwrap_or_default()).bind(from)
}

/// An executor's functions have no replicas any more, and nobody is left who would say so.
pub(crate) fn forget(dialect: Dialect, executor_id: &str) -> Statement {
    let sql = format!("UPDATE functions SET doc = {} WHERE function_executor_id = $2", assign(dialect));
    Statement::new(sql).bind(json!(FunctionStatus::default()).to_string()).bind(executor_id)
}

/// Writes a status into a record. It is an observation, no change by a user: the revision stays, so that nobody's
/// `If-Match` fails because of it.
///
/// # Errors
/// 404 when there is no such function (any more).
pub(super) async fn write(store: &Store, name: &str, status: &FunctionStatus) -> Result<(), ApiError> {
    // Messages of policies may hold what PostgreSQL's `jsonb` cannot.
    let text = serde_json::to_string(status).map_err(ApiError::internal)?.replace("\\u0000", "");
    let sql = format!("UPDATE functions SET doc = {} WHERE key = $2", assign(store.dialect()));
    match store.execute(Statement::new(sql).bind(text).bind(name)).await? {
        0 => Err(FUNCTIONS.missing(name)),
        _ => Ok(()),
    }
}

/// A record whose status is `$1`.
fn assign(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "json_set(doc, '$.function_status', json($1))",
        Dialect::Postgres => "jsonb_set(doc, '{function_status}', $1::jsonb)",
    }
}
