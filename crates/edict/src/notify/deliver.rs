//! One attempt to tell the webhook.

use super::{Notification, Notifier};
use crate::audit::moment;
use edict_client::records::AuditLog;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::redirect::Policy;
use serde::Serialize;
use sha2::Sha256;
use std::time::Duration;

/// Longest attempt.
const LONGEST: Duration = Duration::from_secs(10);

/// What the receiver reads.
#[derive(Serialize)]
struct Body<'a> {
    event: &'a str,
    /// The same in every attempt: who gets it twice knows by this.
    id: &'a str,
    at: String,
    /// Of `action.repeated`: how often the action was completed on its target, this time included.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<i64>,
    action: AuditLog,
}

/// Where a redirect leads is not what somebody has set, and may be a place that only this server reaches.
pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("edict/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .timeout(LONGEST)
        .build()
}

impl Notifier {
    /// Sends it; the error says why the receiver does not have it, without the URL, which may hold a secret.
    pub(super) async fn deliver(&self, notification: &Notification) -> Result<(), String> {
        let action =
            self.audit.find(&notification.action_id).await.map_err(|error| error.message().to_owned())?;
        let Some(mut action) = action else { return Ok(()) };
        // Who has a signature and what was signed can ask for the action again.
        action.signature = None;
        let Notification { event, id, times, created_at, .. } = notification;
        let times = (event == "action.repeated").then_some(*times);
        let body = Body { event, id, at: moment(*created_at), times, action };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let mut request = self
            .http
            .post(self.url.expose())
            .header("content-type", "application/json")
            .header("x-edict-delivery", id);
        if let Some(key) = self.key.given() {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|error| error.to_string())?;
            mac.update(&body);
            request = request.header("x-edict-signature", hex::encode(mac.finalize().into_bytes()));
        }
        let response = request.body(body).send().await.map_err(|error| innermost(error.without_url()))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {}", status.as_u16())) }
    }
}

/// The innermost cause says what happened, the layers around it only where.
fn innermost(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer within 10 s".to_owned();
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
