//! Actions that a server left behind when it died: each gets an end in the trail, with what the cluster shows. Nothing is
//! done again.

use super::flow::DECISION;
use super::json::Json;
use super::{Actions, parameters};
use crate::audit::{End, Unfinished};
use crate::error::{ApiError, Code};
use edict_client::records::AuditStatus;
use edict_kube::{Action, Done};
use serde_json::json;
use std::time::Duration;

/// How often what was left behind is looked for.
pub(crate) const SWEEP: Duration = Duration::from_secs(2);

/// After this time an action is given an end even if the cluster has not told what became of it.
const LONGEST: Duration = Duration::from_secs(3600);

impl Actions {
    /// Ends what servers that are gone left behind, as far as that is possible now.
    pub(crate) async fn recover(&self) -> Result<(), ApiError> {
        for left in self.audit.unfinished().await? {
            let id = left.id;
            let Some(end) = self.end_of(&left).await else { continue };
            let status = end.status.as_str();
            if self.audit.close(id, end).await? {
                tracing::warn!(%id, action = left.attempt.action_type, status, "ended an action that was left behind");
            }
        }
        Ok(())
    }

    /// How the action ended; none as long as that may still turn out.
    async fn end_of(&self, left: &Unfinished) -> Option<End> {
        if left.status == AuditStatus::Pending {
            return Some(failed(left, "the server ended before it began with the action; nothing was done"));
        }
        if left.attempt.dry_run {
            return Some(failed(left, "the server ended in the middle of a dry run, which changes nothing"));
        }
        let age = Duration::from_micros(u64::try_from(crate::now_micros() - left.at).unwrap_or_default());
        let what = match self.shows(left).await {
            Ok(Done::Yes) => return Some(completed(left)),
            // What was on its way to the API server when the server died may still arrive there.
            Ok(_) if age < self.clusters.timeout * 2 => return None,
            Ok(Done::No) => "the cluster shows that it was not done".to_owned(),
            Ok(Done::Unknown { why }) => format!("the cluster does not show whether it was done: {why}"),
            Err(why) if age < LONGEST => {
                tracing::info!(id = %left.id, why, "what became of an action is not known yet");
                return None;
            }
            Err(why) => format!("whether it was done is unknown, since the cluster cannot be asked: {why}"),
        };
        Some(failed(left, &format!("the server ended in the middle of the action; {what}")))
    }

    /// What the cluster shows of the action; the error says why it shows nothing.
    async fn shows(&self, left: &Unfinished) -> Result<Done, String> {
        let action = action(left).map_err(|error| error.message().to_owned())?;
        let cluster = self.clusters.get().await.map_err(|error| error.message().to_owned())?;
        cluster.shows(&action, &left.evidence, &left.id.to_string()).await.map_err(|fault| fault.to_string())
    }
}

/// The action out of the trail. It was within the bounds of its time.
fn action(left: &Unfinished) -> Result<Action, ApiError> {
    match Json::read(&left.attempt.action_params, "actionParams")? {
        Json::Object(params) => parameters::action(&left.attempt.action_type, &params, u32::MAX),
        other => Err(ApiError::new(Code::InvalidAction, format!("its parameters are {}", other.kind()))),
    }
}

fn completed(left: &Unfinished) -> End {
    let found = "the server ended in the middle of the action; the cluster shows that it was done";
    let result = json!({"found": found, "before": left.evidence});
    End { status: AuditStatus::Completed, error: None, result: Some(result), ..failed(left, "") }
}

fn failed(left: &Unfinished, message: &str) -> End {
    End {
        status: AuditStatus::Failed,
        error: Some((Code::ActionInterrupted.as_str().to_owned(), message.to_owned())),
        result: None,
        decision: left.evidence.get(DECISION).cloned(),
        execution: Duration::ZERO,
    }
}
