//! `GET /policy/<policy_rule_uri>`

use super::POLICIES;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::Policy;
use serde_json::value::RawValue;

/// Returns a policy.
#[utoipa::path(
    get,
    path = "/policy/{policy_rule_uri}",
    tag = "policies",
    params(("policy_rule_uri" = String, Path, example = "ip_allowlist:1.0-beta")),
    responses((status = 200, body = Reply<Policy>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(uri): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let document = POLICIES.get(&app.registry.store, &uri).await?;
    Ok(Data::new(document.doc).revision(document.revision))
}
