//! `POST /function/deployments/create/<executor_id>`, and without an id `…/create/` and `…/create`

use super::wait::Wait;
use super::{FUNCTIONS, record, room};
use crate::allocation;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::executors::EXECUTORS;
use crate::http::{Body, Data, Parameters, Path, Reply, document};
use crate::policies::code;
use axum::extract::State;
use edict_client::records::{DeployFunction, Executor, ExecutorStatus, Function, FunctionStatus, Object};
use serde_json::value::RawValue;

/// Deploys a policy as a function on an executor.
#[utoipa::path(
    post,
    path = "/function/deployments/create/{executor_id}",
    tag = "functions",
    params(("executor_id" = String, Path, example = "local"), Wait),
    request_body = DeployFunction,
    responses((status = 200, body = Reply<Function>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create(
    _: Admin,
    State(app): State<App>,
    Path(executor_id): Path<String>,
    Parameters(wait): Parameters<Wait>,
    Body(payload): Body<Object>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let deployment = checked(payload)?;
    allocation::check(&app, &executor_id, &deployment.node_selector).await?;
    deploy(&app, deployment, &executor_id, wait).await
}

/// Deploys a policy as a function; an allocator chooses the executor.
#[utoipa::path(
    post,
    path = "/function/deployments/create",
    tag = "functions",
    params(Wait),
    request_body = DeployFunction,
    responses((status = 200, body = Reply<Function>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create_anywhere(
    _: Admin,
    State(app): State<App>,
    Parameters(wait): Parameters<Wait>,
    Body(payload): Body<Object>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let mut deployment = checked(payload)?;
    let choice = allocation::choose(&app, &allocation::Request::function(&deployment)?).await?;
    deployment.replicas = deployment.replicas.or(choice.replicas);
    deploy(&app, deployment, &choice.executor_id, wait).await
}

/// Deploys a policy as a function; an allocator chooses the executor.
#[utoipa::path(
    post,
    path = "/function/deployments/create/",
    tag = "functions",
    params(Wait),
    request_body = DeployFunction,
    responses((status = 200, body = Reply<Function>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create_on_no_executor(
    admin: Admin,
    app: State<App>,
    wait: Parameters<Wait>,
    payload: Body<Object>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    create_anywhere(admin, app, wait, payload).await
}

fn checked(payload: Object) -> Result<DeployFunction, ApiError> {
    let deployment: DeployFunction = document(payload, DeployFunction::known_fields())?;
    record::check_name(&deployment.name)?;
    record::check_bounds(deployment.replicas, deployment.autoscaling.as_ref())?;
    Ok(deployment)
}

async fn deploy(
    app: &App,
    deployment: DeployFunction,
    executor_id: &str,
    wait: Wait,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let store = &app.registry.store;
    let found = EXECUTORS.get(store, executor_id).await?;
    let executor: Executor = serde_json::from_str(found.doc.get()).map_err(ApiError::internal)?;
    let function = build(app, deployment, &executor).await?;
    record::check_replicas(function.replicas, function.autoscaling.as_ref())?;
    record::check_values(&function)?;
    room::check(store, &executor, &function).await?;
    let name = function.function_id.as_str();
    FUNCTIONS.create(store, name, &function).await?;
    app.functions.changed(name, &FUNCTIONS.get(store, name).await?).await;
    let document = wait.settle(app, name).await?;
    let warnings = absent(&executor).into_iter().collect();
    Ok(Data::new(document.doc).revision(document.revision).warnings(warnings))
}

async fn build(app: &App, deployment: DeployFunction, executor: &Executor) -> Result<Function, ApiError> {
    let now = crate::now();
    Ok(Function {
        function_policy_data: snapshot(app, &deployment.policy_rule_uri).await?,
        function_id: deployment.name,
        function_executor_id: executor.executor_id.clone(),
        function_executor_uri: executor.executor_host_uri.clone(),
        function_metadata: deployment.function_metadata,
        function_tags: deployment.function_tags,
        function_policy_rule_uri: deployment.policy_rule_uri,
        policy_rule_parameters: deployment.policy_rule_parameters.unwrap_or_default(),
        policy_rule_settings: deployment.policy_rule_settings.unwrap_or_default(),
        replicas: record::replicas(deployment.replicas, deployment.autoscaling.as_ref()),
        autoscaling: deployment.autoscaling,
        node_selector: deployment.node_selector,
        function_status: FunctionStatus::default(),
        created_at: now.clone(),
        updated_at: now,
        revision: 1,
    })
}

/// A policy's record as it is now, its code pinned.
///
/// # Errors
/// 404 when there is no such policy, 422 when its code cannot be reached yet.
pub(super) async fn snapshot(app: &App, uri: &str) -> Result<Object, ApiError> {
    code::pin(&app.registry, uri).await?;
    let (policy, _) = app.registry.policy(uri).await?;
    match serde_json::to_value(policy).map_err(ApiError::internal)? {
        serde_json::Value::Object(record) => Ok(record),
        _ => Err(ApiError::internal("a policy's record is no object")),
    }
}

/// What the caller should know of an executor that will not start replicas soon.
fn absent(executor: &Executor) -> Option<String> {
    let id = &executor.executor_id;
    match executor.executor_status {
        ExecutorStatus::Healthy | ExecutorStatus::Busy => None,
        ExecutorStatus::Unreachable => {
            Some(format!("executor `{id}` is unreachable; replicas are started when it is back"))
        }
        ExecutorStatus::Pending => Some(format!("executor `{id}` has no address yet")),
    }
}
