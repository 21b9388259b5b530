//! `POST /function/management/<name>`

use super::Functions;
use super::fleet::{Answered, Service};
use super::route::{PASSED_ON, moved};
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Path};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use edict_client::records::{ManageFunction, ReplicaAnswer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

/// Shape of a management command's reply.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct ManageReply {
    /// Always true.
    #[schema(example = true)]
    success: bool,
    /// What the first replica's `management` returned.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// What each replica answered, the first one first.
    replicas: Vec<ReplicaAnswer>,
}

impl From<Answered> for ManageReply {
    fn from(answered: Answered) -> Self {
        Self { success: true, data: answered.data, replicas: answered.replicas }
    }
}

/// Sends a management command to every replica of a function. What it changes in settings and parameters is kept, and
/// replicas that are started later have it, too.
#[utoipa::path(
    post,
    path = "/function/management/{name}",
    tag = "functions",
    params(("name" = String, Path)),
    request_body = ManageFunction,
    responses((status = 200, body = ManageReply), (status = "default", body = ErrorBody))
)]
pub(crate) async fn manage(
    _: Operator,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(command): Body<ManageFunction>,
) -> Result<Json<ManageReply>, ApiError> {
    let functions = &app.functions;
    if headers.contains_key(PASSED_ON) {
        let service = functions.fleet.service(&name).ok_or_else(|| moved(&name))?;
        return Ok(Json(functions.fleet.manage(&service, command).await?.into()));
    }
    functions.manage(&name, command).await.map(Json)
}

impl Functions {
    async fn manage(&self, name: &str, command: ManageFunction) -> Result<ManageReply, ApiError> {
        let body = Bytes::from(serde_json::to_vec(&command).map_err(ApiError::internal)?);
        let path = format!("/function/management/{name}");
        let command = &command;
        let here = |service: Arc<Service>| async move {
            Ok(self.fleet.manage(&service, command.clone()).await?.into())
        };
        self.reach(name, (Method::POST, &path, body), here).await
    }
}
