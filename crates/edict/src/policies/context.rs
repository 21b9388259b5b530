//! `POST /policy/<policy_rule_uri>/context`, and the context that policies keep between runs.

use super::POLICIES;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Body, Data, Path};
use crate::store::{Statement, Store, StoreError, Tx};
use axum::extract::State;
use edict_client::records::ContextOp;
use serde_json::{Number, Value, json};

/// Bytes of JSON that one value may have.
const LARGEST_VALUE: usize = 1 << 20;
/// Bytes that a key may have.
const LONGEST_KEY: usize = 512;
/// Entries that one policy may keep.
const MOST_ENTRIES: u32 = 100_000;

/// Carries out one operation on a policy's context. What comes back depends on the operation, see `ContextOp`.
#[utoipa::path(
    post,
    path = "/policy/{policy_rule_uri}/context",
    tag = "policies",
    params(("policy_rule_uri" = String, Path)),
    request_body = ContextOp,
    responses((status = 200, body = Reply<Object>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn operate(
    _: Operator,
    State(app): State<App>,
    Path(uri): Path<String>,
    Body(operation): Body<ContextOp>,
) -> Result<Data<Value>, ApiError> {
    let store = &app.registry.store;
    if POLICIES.find(store, &uri).await?.is_none() {
        return Err(POLICIES.missing(&uri));
    }
    Ok(Data::new(carry_out(store, &uri, operation).await?))
}

/// Carries out one operation, atomically: on SQLite because there is one writer, on PostgreSQL because operations that
/// read before they write hold the scope's lock.
///
/// # Errors
/// 422 `context_invalid` when a key or value is too large, or a number is added to something else.
pub(crate) async fn carry_out(store: &Store, scope: &str, operation: ContextOp) -> Result<Value, ApiError> {
    check(&operation)?;
    match operation {
        ContextOp::Get { key } => Ok(found(get(store, scope, &key).await?)),
        ContextOp::Keys => {
            Ok(items(store, scope).await?.into_iter().map(|(key, _)| Value::String(key)).collect())
        }
        ContextOp::Items => Ok(Value::Object(items(store, scope).await?.into_iter().collect())),
        ContextOp::Len => {
            let sql =
                "SELECT count(*) FROM context WHERE scope = $1 AND (expires_at IS NULL OR expires_at > $2)";
            let row = store.fetch_one::<(i64,)>(live(sql, scope)).await?;
            Ok(json!(row.map_or(0, |(count,)| count)))
        }
        write => {
            let mut tx = store.begin().await?;
            tx.lock(scope).await?;
            let result = change(&mut tx, scope, write).await?;
            tx.commit().await?;
            Ok(result)
        }
    }
}

async fn change(tx: &mut Tx, scope: &str, operation: ContextOp) -> Result<Value, ApiError> {
    match operation {
        ContextOp::Set { key, value, ttl_seconds } => {
            let known = current(tx, scope, &key).await?.is_some();
            put(tx, scope, &key, &value, ttl_seconds).await?;
            within_limit(tx, scope, known).await?;
            Ok(Value::Null)
        }
        ContextOp::Update { entries } => {
            for (key, value) in &entries {
                put(tx, scope, key, value, None).await?;
            }
            within_limit(tx, scope, false).await?;
            Ok(Value::Null)
        }
        ContextOp::SetDefault { key, value } => match current(tx, scope, &key).await? {
            Some((value, _)) => Ok(value),
            None => {
                put(tx, scope, &key, &value, None).await?;
                within_limit(tx, scope, false).await?;
                Ok(value)
            }
        },
        ContextOp::Incr { key, by } => {
            let old = current(tx, scope, &key).await?;
            let known = old.is_some();
            let sum = increment(tx, scope, (&key, old), &by).await?;
            within_limit(tx, scope, known).await?;
            Ok(sum)
        }
        ContextOp::Delete { key } => {
            let existed = current(tx, scope, &key).await?.is_some();
            remove(tx, scope, &key).await?;
            Ok(json!({"found": existed}))
        }
        ContextOp::Pop { key } => {
            let value = current(tx, scope, &key).await?.map(|(value, _)| value);
            remove(tx, scope, &key).await?;
            Ok(found(value))
        }
        ContextOp::Clear => {
            tx.execute(Statement::new("DELETE FROM context WHERE scope = $1").bind(scope)).await?;
            Ok(Value::Null)
        }
        ContextOp::Get { .. } | ContextOp::Keys | ContextOp::Items | ContextOp::Len => Ok(Value::Null),
    }
}

/// Adds to a number and keeps the time at which it expires, as a counter with a window needs.
async fn increment(
    tx: &mut Tx,
    scope: &str,
    (key, old): (&str, Option<(Value, Option<i64>)>),
    by: &Number,
) -> Result<Value, ApiError> {
    let (old, expires_at) = match old {
        Some((Value::Number(number), expires_at)) => (number, expires_at),
        None => (0.into(), None),
        Some((other, _)) => {
            let shown = crate::shorten(&other.to_string());
            return Err(invalid(format!(
                "`{}` holds `{shown}`, which is no number to add to",
                crate::shorten(key)
            )));
        }
    };
    let sum = match (old.as_i64(), by.as_i64()) {
        (Some(old), Some(by)) => old.checked_add(by).map(Number::from),
        _ => old.as_f64().zip(by.as_f64()).and_then(|(old, by)| Number::from_f64(old + by)),
    };
    let sum = sum.ok_or_else(|| invalid(format!("adding `{by}` to `{}` overflows", crate::shorten(key))))?;
    write(tx, scope, key, &Value::Number(sum.clone()), expires_at).await?;
    Ok(Value::Number(sum))
}

async fn get(store: &Store, scope: &str, key: &str) -> Result<Option<Value>, ApiError> {
    let row = store.fetch_one::<(String, Option<i64>)>(select(scope, key)).await?;
    Ok(row.map(parse).transpose()?.map(|(value, _)| value))
}

async fn current(tx: &mut Tx, scope: &str, key: &str) -> Result<Option<(Value, Option<i64>)>, ApiError> {
    tx.fetch::<(String, Option<i64>)>(select(scope, key)).await?.into_iter().next().map(parse).transpose()
}

async fn items(store: &Store, scope: &str) -> Result<Vec<(String, Value)>, ApiError> {
    let sql = "SELECT key, value FROM context WHERE scope = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY key";
    let rows = store.search::<(String, String)>(live(sql, scope)).await?;
    rows.into_iter().map(|(key, text)| Ok((key, parse((text, None))?.0))).collect()
}

fn select(scope: &str, key: &str) -> Statement {
    live(
        "SELECT value, expires_at FROM context \
         WHERE scope = $1 AND (expires_at IS NULL OR expires_at > $2) AND key = $3",
        scope,
    )
    .bind(key)
}

fn live(sql: &str, scope: &str) -> Statement {
    Statement::new(sql).bind(scope).bind(crate::now_micros())
}

fn parse((text, expires_at): (String, Option<i64>)) -> Result<(Value, Option<i64>), ApiError> {
    Ok((serde_json::from_str(&text).map_err(ApiError::internal)?, expires_at))
}

async fn put(tx: &mut Tx, scope: &str, key: &str, value: &Value, ttl: Option<f64>) -> Result<(), ApiError> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be between 0 and 100 years")]
    let expires_at = ttl.map(|seconds| crate::now_micros() + (seconds * 1e6) as i64);
    write(tx, scope, key, value, expires_at).await.map_err(ApiError::from)
}

async fn write(
    tx: &mut Tx,
    scope: &str,
    key: &str,
    value: &Value,
    expires_at: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO context (scope, key, value, expires_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
    let statement = Statement::new(sql).bind(scope).bind(key).bind(value.to_string()).bind(expires_at);
    tx.execute(statement).await.map(|_| ())
}

async fn remove(tx: &mut Tx, scope: &str, key: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM context WHERE scope = $1 AND key = $2";
    tx.execute(Statement::new(sql).bind(scope).bind(key)).await.map(|_| ())
}

/// Counts only after a write that may have added an entry: counting takes longer the more there are.
async fn within_limit(tx: &mut Tx, scope: &str, known: bool) -> Result<(), ApiError> {
    if known {
        return Ok(());
    }
    let sql = "SELECT count(*) FROM context WHERE scope = $1";
    let count =
        tx.fetch::<(i64,)>(Statement::new(sql).bind(scope)).await?.first().map_or(0, |(count,)| *count);
    if count > i64::from(MOST_ENTRIES) { Err(too_many()) } else { Ok(()) }
}

fn too_many() -> ApiError {
    invalid(format!("a context holds at most {MOST_ENTRIES} entries; remove some, or give them a ttl"))
}

fn found(value: Option<Value>) -> Value {
    json!({"found": value.is_some(), "value": value})
}

fn invalid(message: String) -> ApiError {
    ApiError::new(Code::ContextInvalid, format!("context: {message}"))
}

fn check(operation: &ContextOp) -> Result<(), ApiError> {
    const HUNDRED_YEARS: f64 = 3.2e9;
    let entries: Vec<(&str, Option<&Value>)> = match operation {
        ContextOp::Set { key, value, ttl_seconds } => {
            if ttl_seconds.is_some_and(|ttl| !(ttl > 0.0 && ttl < HUNDRED_YEARS)) {
                return Err(invalid("`ttl` must be a number of seconds above 0".to_owned()));
            }
            vec![(key, Some(value))]
        }
        ContextOp::SetDefault { key, value } => vec![(key, Some(value))],
        ContextOp::Update { entries } if entries.len() > MOST_ENTRIES as usize => {
            return Err(too_many());
        }
        ContextOp::Update { entries } => {
            entries.iter().map(|(key, value)| (key.as_str(), Some(value))).collect()
        }
        ContextOp::Get { key }
        | ContextOp::Delete { key }
        | ContextOp::Pop { key }
        | ContextOp::Incr { key, .. } => vec![(key, None)],
        ContextOp::Keys | ContextOp::Items | ContextOp::Len | ContextOp::Clear => Vec::new(),
    };
    for (key, value) in entries {
        if key.is_empty() || key.len() > LONGEST_KEY || key.contains('\0') {
            let shown = crate::shorten(key);
            return Err(invalid(format!("a key has 1 to {LONGEST_KEY} bytes without NUL, got `{shown}`")));
        }
        if value.is_some_and(|value| value.to_string().len() > LARGEST_VALUE) {
            return Err(invalid(format!(
                "the value of `{}` has more than {LARGEST_VALUE} bytes",
                crate::shorten(key)
            )));
        }
    }
    Ok(())
}

/// Removes entries whose time is over.
pub(crate) async fn sweep_expired(store: &Store) -> Result<u64, StoreError> {
    let sql = "DELETE FROM context WHERE expires_at <= $1";
    store.execute(Statement::new(sql).bind(crate::now_micros())).await
}
