//! `POST /jobs/submit/<executor_id>`, and without an id `/jobs/submit/` and `/jobs/submit`

use super::record;
use crate::allocation;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::executors::LOCAL;
use crate::http::{Path, RawBody, decode};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use edict_client::records::{ClaimedJob, Job, JobStatus, SubmitJob};
use serde::Serialize;
use utoipa::ToSchema;

/// Shape of an accepted job's reply.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Submitted {
    /// Always true.
    #[schema(example = true)]
    success: bool,
    job_id: String,
    data: Job,
}

/// Accepts a job for an executor. When this answers, the job is stored and will end in exactly one final state.
#[utoipa::path(
    post,
    path = "/jobs/submit/{executor_id}",
    tag = "jobs",
    params(("executor_id" = String, Path, example = "local")),
    request_body = SubmitJob,
    responses((status = 201, body = Submitted), (status = "default", body = ErrorBody))
)]
pub(crate) async fn submit(
    _: Operator,
    State(app): State<App>,
    Path(executor_id): Path<String>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let request: SubmitJob = decode(&body)?;
    let node_id = match executor_id.as_str() {
        // It is there, and every job's node has no labels at all.
        LOCAL if request.node_selector.is_empty() => None,
        _ => allocation::check(&app, &executor_id, &request.node_selector).await?,
    };
    accept(&app, request, &executor_id, node_id).await
}

/// Accepts a job; an allocator chooses the executor.
#[utoipa::path(
    post,
    path = "/jobs/submit",
    tag = "jobs",
    request_body = SubmitJob,
    responses((status = 201, body = Submitted), (status = "default", body = ErrorBody))
)]
pub(crate) async fn submit_anywhere(
    _: Operator,
    State(app): State<App>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let request: SubmitJob = decode(&body)?;
    let choice = allocation::choose(&app, &allocation::Request::job(&request)).await?;
    accept(&app, request, &choice.executor_id, None).await
}

/// Accepts a job; an allocator chooses the executor.
#[utoipa::path(
    post,
    path = "/jobs/submit/",
    tag = "jobs",
    request_body = SubmitJob,
    responses((status = 201, body = Submitted), (status = "default", body = ErrorBody))
)]
pub(crate) async fn submit_to_no_executor(
    operator: Operator,
    app: State<App>,
    body: RawBody,
) -> Result<Response, ApiError> {
    submit_anywhere(operator, app, body).await
}

async fn accept(
    app: &App,
    request: SubmitJob,
    executor_id: &str,
    node_id: Option<String>,
) -> Result<Response, ApiError> {
    let mut job = record::from_request(request, executor_id, node_id)?;
    let policy = app.registry.compiled(&job.policy_rule_uri).await?;
    policy.check_input(&job.inputs)?;
    policy.settings.with(Some(&job.policy_rule_settings), &policy.uri)?;
    policy.parameters.with(Some(&job.policy_rule_parameters), &policy.uri)?;
    let worker = &app.jobs.worker;
    let place = if executor_id == LOCAL { worker.place(&job.job_id) } else { None };
    let runner_id = place.as_ref().map(|_| worker.runner_id().to_owned());
    if place.is_some() {
        job.job_status = JobStatus::Running;
        job.attempts = 1;
        job.started_at = Some(job.created_at.clone());
        job.node_id = Some(worker.node_id().to_owned());
    } else if executor_id == LOCAL {
        worker.expect_more();
    }
    let queue = std::sync::Arc::clone(&app.jobs.queue);
    // A task of its own: a caller that goes away in the middle must not keep an accepted job from starting.
    let accepted = tokio::spawn(async move {
        queue.insert(&job, runner_id).await?;
        let reply = Submitted { success: true, job_id: job.job_id.clone(), data: job };
        let response = (StatusCode::CREATED, Json(&reply)).into_response();
        if let Some(place) = place {
            place.start(ClaimedJob {
                job: reply.data,
                revision: 1,
                excused: 0,
                edition: None,
                limits: None,
                token: None,
            });
        }
        Ok(response)
    });
    accepted.await.map_err(ApiError::internal)?
}
