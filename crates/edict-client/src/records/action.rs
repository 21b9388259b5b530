//! Actions: what the action executor carries out on a cluster, and what it answers.

use super::{Object, Seconds};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::Sha256;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Body of `POST /executor/execute`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecuteAction {
    /// `restart_pod`, `delete_pod`, `scale_deployment`, `rollback_deployment` or `restart_deployment`.
    #[cfg_attr(feature = "openapi", schema(example = "restart_pod"))]
    pub action_type: String,
    /// What to act on, and how: `namespace`, `podName` or `deploymentName`, and what the action takes besides.
    pub action_params: Object,
    /// Who asks; the policy engine gets it as `userId`.
    pub requested_by: String,
    /// The policy engine's reply, if the caller has asked it. A no is taken at once; a yes is never believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub policy_decision: Option<Box<RawValue>>,
    /// 64 hex digits: HMAC-SHA256 with the server's `JWT_SECRET` over the JSON of `actionType`, `actionParams`,
    /// `requestedBy`, and `timestamp`, `nonce` and `dryRun` if they are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// When it was signed, in seconds since 1970 (or milliseconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<f64>,
    /// 8 to 128 random characters, with which the request works once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Whether the cluster only checks the action.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// How long to wait until the workload is healthy again, at most 10 minutes; not at all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "60s"))]
    pub wait: Option<Seconds>,
}

/// What the action executor answers, refusals included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ActionReply {
    /// Whether the action was carried out.
    pub success: bool,
    /// Where the audit trail has it; none when it could not be written, and so nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_id: Option<String>,
    /// What was done and what came of it, if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub result: Option<Value>,
    /// Why it was refused or failed, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A stable code; `docs/errors.md` has cause and fix of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "action_not_allowed"))]
    pub code: Option<String>,
    /// Facts that belong to the code.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub details: Value,
}

/// What `POST /executor/generate-signature` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GeneratedSignature {
    /// 64 hex digits.
    pub signature: String,
    /// The text that it signs.
    pub payload: String,
}

/// The signed fields, in the order in which they are signed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signed<'a> {
    action_type: &'a str,
    action_params: &'a Object,
    requested_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl ExecuteAction {
    /// An action, unsigned.
    #[must_use]
    pub fn new(action_type: &str, action_params: Object, requested_by: &str) -> Self {
        Self {
            action_type: action_type.to_owned(),
            action_params,
            requested_by: requested_by.to_owned(),
            policy_decision: None,
            signature: None,
            timestamp: None,
            nonce: None,
            dry_run: false,
            wait: None,
        }
    }

    /// Signs the action as it is now, with the server's `JWT_SECRET`; what is changed afterwards makes the signature wrong
    /// (but for `policy_decision` and `wait`, which are not signed).
    #[must_use]
    pub fn sign(mut self, secret: &str) -> Self {
        let signed = Signed {
            action_type: &self.action_type,
            action_params: &self.action_params,
            requested_by: &self.requested_by,
            timestamp: self.timestamp,
            nonce: self.nonce.as_deref(),
            dry_run: self.dry_run,
        };
        // Text, numbers and maps with text for keys are always JSON.
        let text = serde_json::to_string(&signed).unwrap_or_default();
        self.signature = Some(sign_text(secret, &text));
        self
    }

    /// Signs the action with the time and a new nonce, so that whoever sees the request cannot repeat it.
    #[must_use]
    pub fn sign_once(mut self, secret: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.timestamp = Some(now.as_secs_f64().floor());
        self.nonce = Some(uuid::Uuid::new_v4().simple().to_string());
        self.sign(secret)
    }
}

/// HMAC-SHA256 of a text with a secret, in hex.
#[expect(clippy::expect_used, reason = "a key may have any length")]
fn sign_text(secret: &str, text: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key may have any length");
    hex::encode(mac.chain_update(text).finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action() -> ExecuteAction {
        let params = json!({"namespace": "default", "podName": "api-pod-12345"});
        ExecuteAction::new("restart_pod", params.as_object().unwrap().clone(), "ai-engine")
    }

    /// Made with `openssl dgst -sha256 -hmac` over the compact form.
    #[test]
    fn the_signature_is_over_the_compact_form() {
        let signed = action().sign("your_jwt_secret");
        let expected = "d74c985941762ef7842b168cd463fc687485a5e2c66f442bf0ce725b4ae8c944";
        assert_eq!(signed.signature.unwrap(), expected);
    }

    #[test]
    fn each_signature_for_one_use_is_another() {
        let (one, two) = (action().sign_once("secret"), action().sign_once("secret"));
        assert_ne!(one.nonce, two.nonce);
        assert_ne!(one.signature, two.signature);
        assert_eq!(one.timestamp.unwrap().fract(), 0.0);
        let mut dry = one.clone();
        dry.dry_run = true;
        assert_ne!(dry.sign("secret").signature, one.signature);
    }
}
