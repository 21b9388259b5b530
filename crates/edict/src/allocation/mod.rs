//! Choosing the executor.

use crate::app::App;
use crate::error::ApiError;
use crate::executors::{EXECUTORS, LOCAL};
use edict_client::records::{Labels, SubmitJob};

pub(crate) struct Request<'a>(
    #[expect(dead_code, reason = "stands in until allocation lands")] &'a SubmitJob,
);

impl<'a> Request<'a> {
    pub(crate) fn job(job: &'a SubmitJob) -> Self {
        Self(job)
    }
}

pub(crate) struct Choice {
    pub(crate) executor_id: String,
}

pub(crate) async fn choose(_: &App, _: &Request<'_>) -> Result<Choice, ApiError> {
    Ok(Choice { executor_id: LOCAL.to_owned() })
}

pub(crate) async fn check(app: &App, executor_id: &str, _: &Labels) -> Result<Option<String>, ApiError> {
    EXECUTORS.get(&app.registry.store, executor_id).await?;
    Ok(None)
}
