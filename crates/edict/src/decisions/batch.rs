//! `POST /api/v1/policy/evaluate/batch`

use super::decide::parse;
use super::evaluate::{Options, reply};
use super::force::InForce;
use super::{Decisions, Origin};
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Body, Parameters};
use axum::extract::State;
use axum::response::Response;
use edict_client::records::{BatchDecisions, DecisionBatch};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// Requests in one batch.
const MOST: usize = 1_000;
/// How many of them wait for Python policies at once.
const SIDE_BY_SIDE: usize = 16;

/// Requests as text: one that is wrong must not spoil the others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    requests: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Answers {
    decisions: Vec<Box<RawValue>>,
}

/// Decides several requests, all by the same policies.
#[utoipa::path(
    post,
    path = "/api/v1/policy/evaluate/batch",
    tag = "decisions",
    params(Options),
    request_body = DecisionBatch,
    responses((status = 200, body = BatchDecisions), (status = "default", body = ErrorBody))
)]
pub(crate) async fn evaluate_batch(
    _: Operator,
    State(app): State<App>,
    Parameters(options): Parameters<Options>,
    origin: Origin,
    Body(Batch { requests }): Body<Batch>,
) -> Result<Response, ApiError> {
    if !(1..=MOST).contains(&requests.len()) {
        let found = requests.len();
        let problem = format!("field `requests` has {found} entries; a batch takes 1 to {MOST}");
        return Err(ApiError::new(Code::InvalidField, problem));
    }
    let force = app.decisions.in_force();
    let each = requests.into_iter().map(|request| one(&app.decisions, &force, request, options, &origin));
    let decisions = futures::stream::iter(each).buffered(SIDE_BY_SIDE).collect::<Vec<_>>().await;
    reply(&Answers { decisions: decisions.into_iter().collect::<Result<_, _>>()? })
}

/// A decision, or the error that this request alone would have been answered with.
async fn one(
    decisions: &Decisions,
    force: &InForce,
    request: Box<RawValue>,
    options: Options,
    origin: &Origin,
) -> Result<Box<RawValue>, ApiError> {
    let decided = async {
        let request = parse(request.get().as_bytes())?;
        if options.explain {
            let explained = decisions.explain(force, request, origin).await?;
            return to_raw_value(&explained).map_err(ApiError::internal);
        }
        to_raw_value(&decisions.decide(force, request, origin).await?).map_err(ApiError::internal)
    };
    match decided.await {
        Ok(decision) => Ok(decision),
        Err(error) => to_raw_value(&error.body()).map_err(ApiError::internal),
    }
}
