//! `POST /executor/<executor_id>/jobs/claim`

use crate::app::App;
use crate::auth::{Operator, Scope};
use crate::error::{ApiError, Code, ErrorBody};
use crate::executors::LOCAL;
use crate::http::{Body, Data, Path, Reply};
use axum::extract::State;
use edict_client::records::{ClaimJobs, ClaimedJob};

/// Gives an executor's process the jobs that wait for it, as many as it has places for.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/jobs/claim",
    tag = "jobs",
    params(("executor_id" = String, Path)),
    request_body = ClaimJobs,
    responses((status = 200, body = Reply<Vec<ClaimedJob>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn claim(
    _: Operator,
    State(app): State<App>,
    Path(executor_id): Path<String>,
    Body(claim): Body<ClaimJobs>,
) -> Result<Data<Vec<ClaimedJob>>, ApiError> {
    not_local(&executor_id)?;
    let mut claimed = app.jobs.queue.claim(&executor_id, &claim).await?;
    for claimed in &mut claimed {
        complete(&app, claimed).await;
    }
    Ok(Data::new(claimed))
}

/// Adds what the executor would have to ask for. Without an edition it asks, and hears that there is no such policy.
pub(super) async fn complete(app: &App, claimed: &mut ClaimedJob) {
    let job = &claimed.job;
    if let Ok(policy) = app.registry.compiled(&job.policy_rule_uri).await {
        claimed.edition = Some(policy.edition.clone());
        claimed.limits = Some(policy.limits.clone());
    }
    claimed.token = Some(app.scopes.mint(&Scope::Attempt {
        job_id: job.job_id.clone(),
        revision: claimed.revision,
        policy: job.policy_rule_uri.clone(),
    }));
}

/// The built-in executor's jobs are its own server's.
pub(super) fn not_local(executor_id: &str) -> Result<(), ApiError> {
    if executor_id == LOCAL {
        let message = format!("the executor `{LOCAL}` is part of this server, which runs its jobs itself");
        return Err(ApiError::new(Code::ExecutorBuiltin, message));
    }
    Ok(())
}
