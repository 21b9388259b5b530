//! `GET /function/<function_id>`

use super::wait::Wait;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Parameters, Path, Reply};
use axum::extract::State;
use edict_client::records::Function;
use serde_json::value::RawValue;

/// Returns a function, with what its replicas are doing.
#[utoipa::path(
    get,
    path = "/function/{function_id}",
    tag = "functions",
    params(("function_id" = String, Path), Wait),
    responses((status = 200, body = Reply<Function>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(name): Path<String>,
    Parameters(wait): Parameters<Wait>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let document = wait.settle(&app, &name).await?;
    Ok(Data::new(document.doc).revision(document.revision))
}
