//! `POST /executor/<executor_id>/execute_policy` and `execute_mgmt_command`

use super::{LOCAL, remote};
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::execution::Finished;
use crate::http::{Parameters, Path, RawBody, RequestId, decode};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use edict_client::records::{ExecutePolicy, LogRecord, Manage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

/// What to return beside the result.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Return what the run printed and logged, too.
    #[serde(default)]
    pub(crate) logs: bool,
}

/// Shape of a successful run's reply.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// Always true.
    #[schema(example = true)]
    success: bool,
    /// What `eval` or `management` returned.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// What the run printed and logged, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<LogRecord>>,
}

impl Answer {
    pub(crate) fn new(finished: Finished, options: Options) -> Self {
        Self { success: true, data: finished.data, logs: options.logs.then_some(finished.logs) }
    }
}

/// Runs a policy once on an executor, statelessly.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/execute_policy",
    tag = "executors",
    params(("executor_id" = String, Path, example = "local"), Options),
    request_body = ExecutePolicy,
    responses((status = 200, body = Answer), (status = "default", body = ErrorBody))
)]
pub(crate) async fn execute_policy(
    _: Operator,
    State(app): State<App>,
    Path(id): Path<String>,
    Parameters(options): Parameters<Options>,
    request_id: RequestId,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let request: ExecutePolicy = decode(&body)?;
    if id == LOCAL {
        let finished = app.runner.execute(request, None).await?;
        return Ok(Json(Answer::new(finished, options)).into_response());
    }
    let call = remote::Call { path: "execute_policy", uri: &request.policy_rule_uri, options, request_id };
    remote::forward(&app, &id, call, body).await
}

/// Sends a policy a management command on an executor; what it changes is kept for later runs there.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/execute_mgmt_command",
    tag = "executors",
    params(("executor_id" = String, Path, example = "local"), Options),
    request_body = Manage,
    responses((status = 200, body = Answer), (status = "default", body = ErrorBody))
)]
pub(crate) async fn execute_mgmt_command(
    _: Operator,
    State(app): State<App>,
    Path(id): Path<String>,
    Parameters(options): Parameters<Options>,
    request_id: RequestId,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let request: Manage = decode(&body)?;
    if id == LOCAL {
        let finished = app.runner.manage(request, None).await?;
        return Ok(Json(Answer::new(finished, options)).into_response());
    }
    let call =
        remote::Call { path: "execute_mgmt_command", uri: &request.policy_rule_uri, options, request_id };
    remote::forward(&app, &id, call, body).await
}
