//! `GET /audit/verify`

use super::chain::Verifier;
use super::{Audit, entries, metrics};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, Parameters, Reply};
use crate::store::Statement;
use axum::extract::State;
use edict_client::records::AuditVerdict;
use serde::Deserialize;
use std::time::Duration;
use utoipa::IntoParams;

/// Longest look at the trail in one request; some millions of entries pass in it.
const LONGEST: Duration = Duration::from_secs(60);

/// What is known of the trail.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    /// Hash of an entry that was kept elsewhere, such as `head.hash` of an earlier reply: it must still be there.
    head: Option<String>,
}

/// Looks at every entry of the audit trail and says which were changed, removed, added or moved. One look at a time per
/// server, and for a minute at most.
#[utoipa::path(
    get,
    path = "/audit/verify",
    tag = "audit",
    params(Known),
    responses((status = 200, body = Reply<AuditVerdict>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn verify(
    _: Viewer,
    State(app): State<App>,
    Parameters(known): Parameters<Known>,
) -> Result<Data<AuditVerdict>, ApiError> {
    let looked = tokio::time::timeout(LONGEST, app.audit.verify(known.head)).await;
    let verdict = looked.map_err(|_| {
        ApiError::new(
            Code::QueryTimeout,
            "the trail is too long to be looked at in a minute: export it (`edict audit export`) and verify the file \
             (`edict audit verify --file`)",
        )
    })??;
    Ok(Data::new(verdict))
}

impl Audit {
    /// Looks at the whole trail, a batch of entries at a time. `known`: a hash that must be in it.
    pub(crate) async fn verify(&self, known: Option<String>) -> Result<AuditVerdict, ApiError> {
        let Ok(_one) = self.verifying.try_lock() else {
            return Err(ApiError::new(
                Code::Overloaded,
                "this server is verifying the trail already; try again",
            )
            .retry_after(Duration::from_secs(5)));
        };
        loop {
            let oldest = self.oldest().await?;
            let verdict = self.look(known.clone()).await?;
            // Retention may have removed entries in front of the reader; then the gap is none.
            if verdict.intact || self.oldest().await? == oldest {
                return Ok(verdict);
            }
        }
    }

    async fn look(&self, known: Option<String>) -> Result<AuditVerdict, ApiError> {
        let mut verifier = Verifier::expecting(known);
        let mut head = entries::head(&self.store).await?.unwrap_or_default();
        let mut after = 0;
        loop {
            let batch = entries::batch(&self.store, after).await?;
            let Some(last) = batch.last() else {
                // What is appended meanwhile moves the end: the two belong together when there was nothing new between
                // two looks at it.
                let now = entries::head(&self.store).await?.unwrap_or_default();
                if now == head {
                    metrics::length(head.seq);
                    return Ok(verifier.finish(Some(&head)));
                }
                head = now;
                continue;
            };
            after = last.seq;
            batch.iter().for_each(|entry| verifier.look(entry));
        }
    }

    async fn oldest(&self) -> Result<Option<i64>, ApiError> {
        let sql = "SELECT seq FROM audit_entries ORDER BY seq LIMIT 1";
        Ok(self.store.fetch_one::<(i64,)>(Statement::new(sql)).await?.map(|(seq,)| seq))
    }
}
