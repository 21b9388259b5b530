//! `GET /api/v1/policy/{id}`

use super::force::InForce;
use super::{DECISION_POLICIES, Decisions};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::Path;
use crate::store::{Statement, Tx};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use edict_client::records::{DecisionPolicy, Object};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// Returns a decision policy, by its id or its name.
#[utoipa::path(
    get,
    path = "/api/v1/policy/{id}",
    tag = "decisions",
    params(("id" = String, Path, description = "Its id or its name.")),
    responses((status = 200, body = DecisionPolicy), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let decisions = &app.decisions;
    let force = decisions.in_force();
    let Some(key) = decisions.key(&id).await? else {
        let filed = force.folder.named(&id).ok_or_else(|| DECISION_POLICIES.missing(&id))?;
        return Ok(Json(filed.record()).into_response());
    };
    let document = DECISION_POLICIES.get(&decisions.store, &key).await?;
    Ok((etag(document.revision), Json(shown(&force, document.doc)?)).into_response())
}

/// The revision, ready for `If-Match`.
pub(super) fn etag(revision: u64) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{revision}\""))]
}

/// A stored record as the API shows it: with what this version cannot read of it.
pub(super) fn shown(force: &InForce, doc: Box<RawValue>) -> Result<Box<RawValue>, ApiError> {
    if force.unreadable.is_empty() {
        return Ok(doc);
    }
    let mut fields: Object = serde_json::from_str(doc.get()).map_err(ApiError::internal)?;
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
    let Some(why) = force.unreadable.get(name) else { return Ok(doc) };
    fields.insert("error".to_owned(), Value::from(why.as_str()));
    to_raw_value(&fields).map_err(ApiError::internal)
}

impl Decisions {
    /// The key of the stored policy with this id, or else with this name.
    pub(super) async fn key(&self, id: &str) -> Result<Option<String>, ApiError> {
        let sql = "SELECT key FROM decision_policies WHERE key = $1 OR name = $1 \
                   ORDER BY CASE WHEN key = $1 THEN 0 ELSE 1 END LIMIT 1";
        Ok(self.store.fetch_one::<(String,)>(Statement::new(sql).bind(id)).await?.map(|(key,)| key))
    }

    /// [`key`](Self::key) of a policy that is to be changed.
    ///
    /// # Errors
    /// 404; 409 when it is one of the folder.
    pub(super) async fn changeable(&self, id: &str) -> Result<String, ApiError> {
        if let Some(key) = self.key(id).await? {
            return Ok(key);
        }
        let force = self.in_force();
        let filed = force.folder.named(id).ok_or_else(|| DECISION_POLICIES.missing(id))?;
        Err(ApiError::new(
            Code::DecisionPolicyReadOnly,
            format!(
                "the decision policy `{}` comes from the file `{}`: change it there",
                crate::shorten(id),
                filed.file
            ),
        ))
    }

    /// Starts a change. Changes wait for one another: they are rare, and each may concern the whole set.
    pub(super) async fn begin(&self) -> Result<Tx, ApiError> {
        let mut tx = self.store.begin().await?;
        tx.lock("decision_policies").await?;
        Ok(tx)
    }
}
