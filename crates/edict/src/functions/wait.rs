//! Waiting for a rollout.

use super::FUNCTIONS;
use crate::app::App;
use crate::error::ApiError;
use crate::store::documents::Document;
use edict_client::records::{Function, FunctionState, Seconds};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

/// Longest wait that a request may ask for.
const LONGEST: Duration = Duration::from_secs(300);
/// How often a status is looked at that another server may have written.
const LOOK: Duration = Duration::from_millis(250);

/// How long to wait.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    /// Answer when every replica has the current revision or one has failed, but after so long at the latest: seconds,
    /// or text such as `60s`; at most 5 minutes.
    #[param(value_type = Option<String>, example = "60s")]
    wait: Option<Seconds>,
}

impl Wait {
    /// The record, once its rollout is over or the time is.
    ///
    /// # Errors
    /// 404 when there is no such function (any more).
    pub(super) async fn settle(self, app: &App, name: &str) -> Result<Document, ApiError> {
        let longest = self.wait.map_or(Duration::ZERO, Seconds::duration).min(LONGEST);
        let end = Instant::now() + longest;
        loop {
            let reported = app.functions.next_report();
            tokio::pin!(reported);
            // Enabled before looking, so that a report in between is not missed.
            reported.as_mut().enable();
            let document = FUNCTIONS.get(&app.registry.store, name).await?;
            if Instant::now() >= end || app.stopping.is_cancelled() || settled(&document)? {
                return Ok(document);
            }
            let next = app.stopping.run_until_cancelled(reported);
            timeout_at(end.min(Instant::now() + LOOK), next).await.ok();
        }
    }
}

fn settled(document: &Document) -> Result<bool, ApiError> {
    let function: Function = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    let status = function.function_status;
    Ok(status.observed_revision >= document.revision
        && (status.error.is_some() || status.state == FunctionState::Ready))
}
