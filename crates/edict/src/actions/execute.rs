//! `POST /executor/execute`

use super::flow::Answer;
use crate::app::App;
use crate::auth::Operator;
use crate::decisions::Origin;
use crate::error::ApiError;
use crate::http::RawBody;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use edict_client::records::{ActionReply, ExecuteAction};
use std::sync::Arc;

/// Carries out an action on the cluster: if it is signed, known, in an allowed namespace, allowed by the policy engine,
/// not too often, and its target exists; in this order. Every request is in the audit trail, whatever comes of it.
#[utoipa::path(
    post,
    path = "/executor/execute",
    tag = "actions",
    request_body = ExecuteAction,
    responses((status = 200, body = ActionReply), (status = "default", body = ActionReply))
)]
pub(crate) async fn execute(
    _: Operator,
    State(app): State<App>,
    origin: Origin,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let actions = Arc::clone(&app.actions);
    // A task of its own: a caller that goes away in the middle must not leave half an action.
    let taken = app.actions.running.spawn(async move { actions.take(&body, &origin).await });
    taken.await.map_err(ApiError::internal).map(IntoResponse::into_response)
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let audit_id = self.audit_id.map(|id| id.to_string());
        let error = match self.outcome {
            Ok(result) => {
                let reply = ActionReply {
                    success: true,
                    audit_id,
                    result: Some(result),
                    error: None,
                    code: None,
                    details: serde_json::Value::Null,
                };
                return axum::Json(reply).into_response();
            }
            Err(error) => error,
        };
        let reply = ActionReply {
            success: false,
            audit_id,
            result: None,
            error: Some(error.message().to_owned()),
            code: Some(error.code().as_str().to_owned()),
            details: error.clone().into_details(),
        };
        // Status and headers as of any error, with a body in the shape of the spec.
        let (mut head, _) = error.into_response().into_parts();
        head.headers.remove(header::CONTENT_LENGTH);
        match serde_json::to_vec(&reply) {
            Ok(body) => Response::from_parts(head, Body::from(body)),
            Err(error) => ApiError::internal(error).into_response(),
        }
    }
}
