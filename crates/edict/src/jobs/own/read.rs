//! `GET /jobs/<job_id>/attempt`

use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, Path, Reply};
use crate::jobs::claim::complete;
use crate::policies::code;
use axum::extract::State;
use edict_client::records::AttemptBrief;

/// Returns what an attempt of a job needs to know: the job, its policy, and a token that is good for this attempt only.
#[utoipa::path(
    get,
    path = "/jobs/{job_id}/attempt",
    tag = "jobs",
    operation_id = "read_attempt",
    params(("job_id" = String, Path)),
    responses((status = 200, body = Reply<AttemptBrief>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Operator,
    State(app): State<App>,
    Path(job_id): Path<String>,
) -> Result<Data<AttemptBrief>, ApiError> {
    brief(&app, &job_id).await.map(Data::new)
}

pub(super) async fn brief(app: &App, job_id: &str) -> Result<AttemptBrief, ApiError> {
    let mut claimed = app.jobs.queue.get(job_id).await?.claimed();
    complete(app, &mut claimed).await;
    let uri = claimed.job.policy_rule_uri.as_str();
    let policy = match code::pin(&app.registry, uri).await {
        Ok(_) => Some(app.registry.policy(uri).await?.0),
        Err(error) if error.code() == Code::PolicyNotFound => None,
        Err(error) => return Err(error),
    };
    let state = app.registry.state(&claimed.job.executor_id, uri).await?;
    Ok(AttemptBrief { claimed, policy, state, begun_elsewhere: false })
}
