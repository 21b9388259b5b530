//! Whether an executor has room for a function's replicas.

use super::record;
use crate::error::{ApiError, Code};
use crate::store::{Statement, Store};
use edict_client::records::{Autoscaling, Executor, Function};
use serde_json::{Value, json};

/// Refuses more replicas than an executor may run, those of its other functions included. What autoscaling may add
/// counts only once it is there.
///
/// # Errors
/// 422 `no_executor_fits`.
pub(super) async fn check(store: &Store, executor: &Executor, function: &Function) -> Result<(), ApiError> {
    let most = executor.executor_hardware_info.get("max_replicas").and_then(Value::as_u64);
    let Some(most) = most else { return Ok(()) };
    let sql =
        "SELECT replicas, CAST(doc AS text) FROM functions WHERE function_executor_id = $1 AND key <> $2";
    let id = executor.executor_id.as_str();
    let others = Statement::new(sql).bind(id).bind(function.function_id.as_str());
    let mut taken = 0;
    for (replicas, doc) in store.fetch::<(i64, String)>(others).await? {
        #[derive(serde::Deserialize)]
        struct Rule {
            #[serde(default)]
            autoscaling: Option<Autoscaling>,
        }
        let rule: Rule = serde_json::from_str(&doc).map_err(ApiError::internal)?;
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        taken += u64::from(record::claim(replicas, rule.autoscaling.as_ref()));
    }
    let wanted = u64::from(record::claim(function.replicas, function.autoscaling.as_ref()));
    if taken + wanted <= most {
        return Ok(());
    }
    let reason = format!("it runs at most {most} replicas (`max_replicas`), and {taken} of them are taken");
    Err(ApiError::new(
        Code::NoExecutorFits,
        format!("executor `{id}` has no room for {wanted} replicas of `{}`: {reason}", function.function_id),
    )
    .details(json!({"executors": [{"executor_id": id, "reason": reason}]})))
}
