//! `GET /api/v1/policy`

use super::query::{Found, find};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Page, Parameters};
use axum::Json;
use axum::extract::State;
use edict_client::records::{DecisionPolicies, Object};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

/// Which decision policies, and which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Only the one with this name.
    name: Option<String>,
    /// Only those about this type of request, as they have it; `*` finds those that are about every type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// `allow` or `deny`.
    effect: Option<String>,
    /// Only active or inactive ones.
    is_active: Option<bool>,
    /// `api` for those of the database, `folder` for those of the folder.
    source: Option<String>,
    /// Decision policies to return, 1 to 10000; 1000 when left out.
    limit: Option<u32>,
    /// Decision policies to pass over first.
    skip: Option<u32>,
    /// Fields to sort by, for example `type,-priority`; by name when left out.
    sort: Option<String>,
}

/// Lists decision policies.
#[utoipa::path(
    get,
    path = "/api/v1/policy",
    tag = "decisions",
    params(Wanted),
    responses((status = 200, body = DecisionPolicies), (status = "default", body = ErrorBody))
)]
pub(crate) async fn list(
    _: Viewer,
    State(app): State<App>,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Json<Found>, ApiError> {
    let Wanted { name, kind, effect, is_active, source, limit, skip, sort } = wanted;
    let filters = [
        ("name", name.map(Value::from)),
        ("type", kind.map(Value::from)),
        ("effect", effect.map(Value::from)),
        ("isActive", is_active.map(Value::from)),
        ("source", source.map(Value::from)),
    ];
    let filters = filters.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
    let filter = Value::Object(filters.collect::<Object>());
    find(&app.decisions, &filter, Page { limit, skip, sort, fields: None }).await.map(Json)
}
