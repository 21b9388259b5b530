//! `POST /api/v1/policy/query`

use super::read::shown;
use super::{DECISION_POLICIES, Decisions};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Page, Parameters};
use crate::store::documents::{Collection, to_document};
use axum::Json;
use axum::extract::State;
use edict_client::records::DecisionPolicies;
use edict_filter::{Filter, Projection};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A page of decision policies, as text.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    policies: Vec<Box<RawValue>>,
    has_more: bool,
}

/// Finds decision policies with a Mongo-style filter.
#[utoipa::path(
    post,
    path = "/api/v1/policy/query",
    tag = "decisions",
    params(Page),
    request_body(content = Object, example = json!({"effect": "deny", "actions": {"$regex": "^restart_"}})),
    responses((status = 200, body = DecisionPolicies), (status = "default", body = ErrorBody))
)]
pub(crate) async fn query(
    _: Viewer,
    State(app): State<App>,
    Parameters(page): Parameters<Page>,
    Body(filter): Body<Value>,
) -> Result<Json<Found>, ApiError> {
    find(&app.decisions, &filter, page).await.map(Json)
}

/// Those of the database in the order that the page asks for, then those of the folder by name.
pub(super) async fn find(decisions: &Decisions, filter: &Value, mut page: Page) -> Result<Found, ApiError> {
    page.sort.get_or_insert_with(|| "name".to_owned());
    let force = decisions.in_force();
    let (stored, mut has_more) = DECISION_POLICIES.query(&decisions.store, filter, &page).await?;
    let docs = stored.into_iter().map(|doc| shown(&force, doc));
    let mut policies = docs.collect::<Result<Vec<_>, _>>()?;
    if !has_more && !force.folder.policies.is_empty() {
        let all = DECISION_POLICIES.count(&decisions.store, filter).await?;
        let skip = u64::from(page.skip.unwrap_or(0)).saturating_sub(all);
        let room = (Collection::limit(&page)? as usize).saturating_sub(policies.len());
        let matching = Filter::parse(filter)?;
        let projection = page.fields.as_deref().map(Projection::parse).transpose()?;
        let documents = force.folder.policies.iter().map(|filed| to_document(&filed.record()));
        let documents = documents.collect::<Result<Vec<_>, _>>()?.into_iter();
        let mut found = documents
            .filter(|document| matching.matches(document))
            .skip(usize::try_from(skip).unwrap_or(usize::MAX));
        for document in found.by_ref().take(room) {
            let shown =
                projection.as_ref().map_or_else(|| document.clone(), |fields| fields.apply(&document));
            policies.push(to_raw_value(&shown).map_err(ApiError::internal)?);
        }
        has_more = found.next().is_some();
    }
    Ok(Found { policies, has_more })
}
