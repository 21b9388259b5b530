//! `PUT /executor/<executor_id>/heartbeat`

use super::bring::bring;
use super::{LOCAL, status};
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Body, Data, Path};
use crate::store::{Statement, Store};
use axum::extract::State;
use edict_client::records::{Executor, ExecutorStatus, Heartbeat, Object};
use serde_json::json;

/// Tells that an executor is alive; the first heartbeat registers it.
#[utoipa::path(
    put,
    path = "/executor/{executor_id}/heartbeat",
    tag = "executors",
    params(("executor_id" = String, Path)),
    request_body = Heartbeat,
    responses((status = 200, body = Reply<Object>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn heartbeat(
    _: Operator,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(heartbeat): Body<Heartbeat>,
) -> Result<Data<serde_json::Value>, ApiError> {
    let store = &app.registry.store;
    if id == LOCAL {
        return Err(taken(&id, "it is built into the policy system"));
    }
    if status::alive(store, &id).await?.is_some_and(|instance| instance != heartbeat.instance_id) {
        return Err(taken(&id, "another process with this id is alive"));
    }
    if heartbeat.executor_status == ExecutorStatus::Unreachable {
        // A farewell: the next process with this id need not wait until this one counts as silent.
        let sql = "UPDATE heartbeats SET instance_id = '' WHERE executor_id = $1 AND instance_id = $2";
        store.execute(Statement::new(sql).bind(id.as_str()).bind(heartbeat.instance_id.as_str())).await?;
        status::set(store, &id, ExecutorStatus::Unreachable).await?;
        return Ok(Data::new(json!({"executor_id": id})));
    }
    let reachable = register(store, &id, &heartbeat).await?;
    let sql = "INSERT INTO heartbeats (executor_id, instance_id, token, seen_at, load) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (executor_id) DO UPDATE SET instance_id = excluded.instance_id, \
               token = excluded.token, seen_at = excluded.seen_at, load = excluded.load";
    let load = serde_json::to_string(&heartbeat.executor_load).map_err(ApiError::internal)?;
    let statement = Statement::new(sql)
        .bind(id.as_str())
        .bind(heartbeat.instance_id.as_str())
        .bind(heartbeat.executor_token.as_str())
        .bind(crate::now_micros())
        .bind(load);
    store.execute(statement).await?;
    // Whoever made its infrastructure has yet to find out where it is.
    let status = if reachable { heartbeat.executor_status } else { ExecutorStatus::Pending };
    status::set(store, &id, status).await?;
    Ok(Data::new(json!({"executor_id": id})))
}

fn taken(id: &str, why: &str) -> ApiError {
    ApiError::new(
        Code::ExecutorTaken,
        format!("the executor id `{id}` is in use: {why}; choose another `executor_id`"),
    )
}

/// Brings the record up to what the executor says of itself. Metadata that a user has set is kept, and so is the address
/// of an executor that does not know its own. Returns whether there is an address.
async fn register(store: &Store, id: &str, heartbeat: &Heartbeat) -> Result<bool, ApiError> {
    let now = bring(store, id, Vec::new, |old| {
        let mut metadata = heartbeat.executor_metadata.clone();
        metadata.extend(old.map(|old| old.executor_metadata.clone()).unwrap_or_default());
        let known = || old.and_then(|old| old.executor_host_uri.clone());
        Some(Executor {
            executor_id: id.to_owned(),
            executor_host_uri: heartbeat.executor_host_uri.clone().or_else(known),
            executor_metadata: metadata,
            executor_hardware_info: heartbeat.executor_hardware_info.clone(),
            executor_status: old.map_or(ExecutorStatus::Healthy, |old| old.executor_status),
            cluster_public_ip: old.and_then(|old| old.cluster_public_ip.clone()),
            created_at: String::new(),
            updated_at: String::new(),
            revision: 0,
        })
    })
    .await?;
    Ok(now.is_some_and(|executor| executor.executor_host_uri.is_some()))
}

/// Registers this server's built-in executor.
pub(crate) async fn register_local(store: &Store, url: &str, hardware: Object) -> Result<(), ApiError> {
    let heartbeat = Heartbeat {
        instance_id: String::new(),
        executor_host_uri: Some(url.to_owned()),
        executor_token: String::new(),
        executor_status: ExecutorStatus::Healthy,
        executor_metadata: json!({"description": "built into the policy system"})
            .as_object()
            .cloned()
            .unwrap_or_default(),
        executor_hardware_info: hardware,
        executor_load: None,
    };
    register(store, LOCAL, &heartbeat).await?;
    status::set(store, LOCAL, ExecutorStatus::Healthy).await
}
