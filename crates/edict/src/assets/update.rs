//! `PUT /asset/<asset_uri>`

use super::{ASSETS, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, IfMatch, Path, Reply};
use crate::store::documents::Change;
use axum::extract::State;
use edict_client::records::Asset;
use serde_json::Value;

/// Replaces an asset's record, or changes it with update operators. The stored file stays.
#[utoipa::path(
    put,
    path = "/asset/{asset_uri}",
    tag = "assets",
    params(("asset_uri" = String, Path), IfMatch),
    request_body(content = Object, example = json!({"$addToSet": {"asset_tags": "policy"}})),
    responses((status = 200, body = Reply<Asset>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn update(
    _: Admin,
    State(app): State<App>,
    Path(uri): Path<String>,
    if_match: IfMatch,
    Body(payload): Body<Value>,
) -> Result<Data<Asset>, ApiError> {
    let store = &app.registry.store;
    let updated = ASSETS
        .update(store, &uri, if_match, payload, |fields, old: &Asset| {
            let mut new = record::from_payload(fields, Some(old))?;
            if old.asset_file_info.is_some() {
                new.asset_public_url.clone_from(&old.asset_public_url);
            }
            record::check_url(&new)?;
            Ok(Change { key: new.asset_uri.clone(), new, also: Vec::new() })
        })
        .await?;
    let revision = updated.new.revision;
    Ok(Data::new(updated.new).revision(revision).moved_to(updated.moved_to))
}
