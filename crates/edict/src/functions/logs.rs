//! `GET /function/<function_id>/logs`

use super::Functions;
use super::fleet::Service;
use super::route::{PASSED_ON, Reply as Passed, moved};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, Parameters, Path, Reply};
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use edict_client::records::FunctionLog;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Lines that are returned unless the request says otherwise.
const DEFAULT: usize = 100;
/// Lines that are returned at most.
const MOST: usize = 1000;

/// How many lines.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Lines to return, 1 to 1000; 100 when left out.
    limit: Option<usize>,
}

impl Limit {
    pub(super) fn lines(self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(DEFAULT);
        if (1..=MOST).contains(&limit) {
            return Ok(limit);
        }
        let problem = format!("query parameter `limit` must be between 1 and {MOST}, got `{limit}`");
        Err(ApiError::new(Code::InvalidParameter, problem))
    }
}

/// Returns the last lines that a function's replicas printed and logged, the oldest first. They are kept in the memory
/// of its executor.
#[utoipa::path(
    get,
    path = "/function/{function_id}/logs",
    tag = "functions",
    params(("function_id" = String, Path), Limit),
    responses((status = 200, body = Reply<Vec<FunctionLog>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn logs(
    _: Viewer,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Parameters(limit): Parameters<Limit>,
) -> Result<Data<Vec<FunctionLog>>, ApiError> {
    let lines = limit.lines()?;
    if headers.contains_key(PASSED_ON) {
        let service = app.functions.fleet.service(&name).ok_or_else(|| moved(&name))?;
        return Ok(Data::new(service.logs(lines).await));
    }
    Ok(Data::new(app.functions.logs(&name, lines).await?))
}

impl Functions {
    async fn logs(&self, name: &str, lines: usize) -> Result<Vec<FunctionLog>, ApiError> {
        let path = format!("/function/{name}/logs?limit={lines}");
        let here = |service: Arc<Service>| async move { Ok(Passed { data: service.logs(lines).await }) };
        Ok(self.reach(name, (Method::GET, &path, Bytes::new()), here).await?.data)
    }
}
