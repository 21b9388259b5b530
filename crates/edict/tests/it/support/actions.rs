//! Requests for actions, signed and sent as clients do.

use super::{Reply, TestApp, http, reply};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The key that servers under test are given.
pub(crate) const SECRET: &str = "the-key-of-the-tests";

/// What is signed, if it is there.
const SIGNED: [&str; 6] = ["actionType", "actionParams", "requestedBy", "timestamp", "nonce", "dryRun"];

/// HMAC-SHA256 of a text in hex.
pub(crate) fn hmac(key: &str, text: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    hex::encode(mac.chain_update(text).finalize().into_bytes())
}

/// A request with its signature.
pub(crate) fn signed(mut body: Value) -> Value {
    let fields = body.as_object().unwrap().clone().into_iter();
    let fields: serde_json::Map<_, _> = fields.filter(|(name, _)| SIGNED.contains(&name.as_str())).collect();
    body["signature"] = hmac(SECRET, &Value::Object(fields).to_string()).into();
    body
}

/// A request as the tests make it, unsigned.
pub(crate) fn action(name: &str, params: Value) -> Value {
    json!({"actionType": name, "actionParams": params, "requestedBy": "tests"})
}

/// Status and code of a reply to a request for an action; the code is empty when it succeeded.
pub(crate) fn verdict(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.json["code"].as_str().unwrap_or_default())
}

impl TestApp {
    /// A request to the action executor, to be completed and sent with [`reply`].
    pub(crate) fn to_actions(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        http().request(method.parse().unwrap(), format!("{}{path}", self.listener("actions")))
    }

    /// Asks for an action with this body.
    pub(crate) async fn ask(&self, body: &Value) -> Reply {
        self.ask_text(body.to_string()).await
    }

    /// Asks for an action with this text.
    pub(crate) async fn ask_text(&self, body: impl Into<reqwest::Body>) -> Reply {
        reply(self.to_actions("POST", "/executor/execute").body(body)).await
    }

    /// Asks for an action and expects it to succeed; returns the reply.
    pub(crate) async fn act(&self, name: &str, params: Value) -> Value {
        let reply = self.ask(&signed(action(name, params))).await;
        assert_eq!(verdict(&reply), (200, ""), "{}", reply.json);
        reply.json
    }

    /// An action in the audit trail.
    pub(crate) async fn audited(&self, id: &Value) -> Value {
        let path = format!("/audit/logs/{}", id.as_str().unwrap());
        let found = reply(self.to_actions("GET", &path)).await;
        assert_eq!(found.status, 200, "{}", found.json);
        found.json["data"].clone()
    }

    /// The actions in the audit trail, the newest first.
    pub(crate) async fn trail(&self) -> Vec<Value> {
        let found = reply(self.to_actions("GET", "/audit/logs")).await;
        assert_eq!(found.status, 200, "{}", found.json);
        found.json["data"].as_array().unwrap().clone()
    }

    /// Waits until an action has its end in the trail.
    pub(crate) async fn closed(&self, id: &Value) -> Value {
        let end = std::time::Instant::now() + super::PATIENCE * 2;
        loop {
            let found = self.audited(id).await;
            if !found["completedAt"].is_null() {
                return found;
            }
            assert!(std::time::Instant::now() < end, "{found}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Has the policy engine allow these actions, beyond what the starter set allows.
    pub(crate) async fn allow(&self, actions: &[&str]) {
        let policy = json!({
            "name": format!("tests-{}", actions.join("-").replace('_', "-")), "type": "self_healing",
            "effect": "allow", "conditions": {"role": "service"}, "actions": actions, "resources": ["*"],
        });
        let url = format!("{}/api/v1/policy", self.listener("engine"));
        let made = reply(http().post(url).json(&policy)).await;
        assert!(made.status < 300, "{}", made.json);
    }
}
