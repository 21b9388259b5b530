//! `POST /executor/<executor_id>/jobs/renew`

use super::claim::not_local;
use super::lease::LEASE;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Path, Reply};
use axum::extract::State;
use edict_client::records::{HeldJob, RenewJobs};
use std::time::Duration;

/// Longest lease.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Renews the lease of an executor's process on its jobs. Returns those that it holds: what is not among them is no
/// longer its own.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/jobs/renew",
    tag = "jobs",
    params(("executor_id" = String, Path)),
    request_body = RenewJobs,
    responses((status = 200, body = Reply<Vec<HeldJob>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn renew(
    _: Operator,
    State(app): State<App>,
    Path(executor_id): Path<String>,
    Body(renew): Body<RenewJobs>,
) -> Result<Data<Vec<HeldJob>>, ApiError> {
    not_local(&executor_id)?;
    let lease = renew
        .lease_seconds
        .map_or(LEASE, |seconds| Duration::from_secs(seconds.into()).clamp(LEASE, LONGEST));
    Ok(Data::new(app.jobs.queue.renew(&executor_id, &renew.runner_id, lease).await?))
}
