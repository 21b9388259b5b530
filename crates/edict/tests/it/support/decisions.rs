//! Asking the policy engine and changing its policies.

use super::{Reply, TestApp, http, reply};
use serde_json::{Value, json};

impl TestApp {
    /// A request to the policy engine, to be completed and sent with [`reply`].
    pub(crate) fn engine_request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        http().request(method.parse().unwrap(), format!("{}{path}", self.listener("engine")))
    }

    /// Sends JSON to a path below `/api/v1/policy` of the policy engine.
    pub(crate) async fn engine(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let Reply { status, json, .. } = self.engine_raw(method, path, body.to_string()).await;
        (status, json)
    }

    /// Sends any body to a path below `/api/v1/policy` of the policy engine.
    pub(crate) async fn engine_raw(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        reply(self.engine_request(method, &format!("/api/v1/policy{path}")).body(body)).await
    }

    /// Gets a path below `/api/v1/policy` of the policy engine.
    pub(crate) async fn engine_get(&self, path: &str) -> (u16, Value) {
        let Reply { status, json, .. } = self.engine_raw("GET", path, "").await;
        (status, json)
    }

    /// What the policy engine decides.
    pub(crate) async fn decide(&self, request: &Value) -> Value {
        let (status, decision) = self.engine("POST", "/evaluate", request).await;
        assert_eq!(status, 200, "{decision}");
        decision
    }

    /// Creates a decision policy; returns the record.
    pub(crate) async fn add_decision(&self, policy: Value) -> Value {
        let (status, record) = self.engine("POST", "", &policy).await;
        assert_eq!(status, 201, "{record}");
        record
    }

    /// The names of all decision policies, in order.
    pub(crate) async fn decision_names(&self) -> Vec<String> {
        let (status, found) = self.engine_get("").await;
        assert_eq!(status, 200, "{found}");
        found["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|policy| policy["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A decision policy about type `t`, action `a` and resource `r`, with these further fields.
pub(crate) fn decision_policy(name: &str, effect: &str, more: Value) -> Value {
    let mut policy =
        json!({"name": name, "type": "t", "effect": effect, "actions": ["a"], "resources": ["r"]});
    for (field, value) in more.as_object().unwrap() {
        policy[field] = value.clone();
    }
    policy
}

/// A request of type `t`, for action `a` on resource `r`, with this context.
pub(crate) fn ask(context: Value) -> Value {
    json!({"action": "a", "resource": "r", "type": "t", "context": context})
}
