//! `POST /jobs/query`

use super::JOBS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Page, Parameters, Reply};
use axum::extract::State;
use edict_client::records::Job;
use serde_json::Value;
use serde_json::value::RawValue;

/// Finds jobs with a Mongo-style filter.
#[utoipa::path(
    post,
    path = "/jobs/query",
    tag = "jobs",
    params(Page),
    request_body(content = Object, example = json!({"policy_rule_uri": "ip_allowlist:1.0-beta", "inputs.ip": "192.168.1.1"})),
    responses((status = 200, body = Reply<Vec<Job>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(page): Parameters<Page>,
    Body(filter): Body<Value>,
) -> Result<Data<Vec<Box<RawValue>>>, ApiError> {
    let (found, more) = JOBS.query(&app.registry.store, &filter, &page).await?;
    Ok(Data::new(found).has_more(more))
}
