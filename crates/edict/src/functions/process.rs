//! The functions of an executor that is a process of its own, as the policy system calls them.

use super::call::{input, output};
use super::fleet::Service;
use super::logs::Limit;
use super::manage::ManageReply;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::executors::process::ExecutorApp;
use crate::http::{Body, Data, Parameters, Path, RawBody, Reply};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use edict_client::records::{FunctionLog, ManageFunction};
use std::sync::Arc;

/// Calls a function of this executor.
#[utoipa::path(
    post,
    path = "/function/call_function/{name}",
    params(("name" = String, Path)),
    request_body = Object,
    responses((status = 200, body = Reply<Object>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn call_function(
    _: Operator,
    State(app): State<ExecutorApp>,
    Path(name): Path<String>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let service = find(&app, &name).await?;
    Ok(output(&service.call(&input(&body)?).await?))
}

/// Sends a management command to every replica of a function of this executor.
#[utoipa::path(
    post,
    path = "/function/management/{name}",
    params(("name" = String, Path)),
    request_body = ManageFunction,
    responses((status = 200, body = ManageReply), (status = "default", body = ErrorBody))
)]
pub(crate) async fn manage_function(
    _: Operator,
    State(app): State<ExecutorApp>,
    Path(name): Path<String>,
    Body(command): Body<ManageFunction>,
) -> Result<Json<ManageReply>, ApiError> {
    let service = find(&app, &name).await?;
    Ok(Json(app.fleet.manage(&service, command).await?.into()))
}

/// Returns the last lines of a function of this executor.
#[utoipa::path(
    get,
    path = "/function/{function_id}/logs",
    params(("function_id" = String, Path), Limit),
    responses((status = 200, body = Reply<Vec<FunctionLog>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn function_logs(
    _: Operator,
    State(app): State<ExecutorApp>,
    Path(name): Path<String>,
    Parameters(limit): Parameters<Limit>,
) -> Result<Data<Vec<FunctionLog>>, ApiError> {
    let service = find(&app, &name).await?;
    Ok(Data::new(service.logs(limit.lines()?).await))
}

/// The function, which may have been deployed just now.
async fn find(app: &ExecutorApp, name: &str) -> Result<Arc<Service>, ApiError> {
    if let Some(service) = app.fleet.service(name) {
        return Ok(service);
    }
    app.fleet.sync().await?;
    app.fleet.service(name).ok_or_else(|| {
        let name = crate::shorten(name);
        ApiError::new(Code::FunctionNotFound, format!("this executor has no function `{name}`"))
    })
}
