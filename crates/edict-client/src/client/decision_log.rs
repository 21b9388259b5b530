//! `/api/v1/policy/audit/logs` of the policy engine: what was decided.

use super::Client;
use crate::Error;
use crate::records::{LoggedDecision, LoggedDecisions};
use reqwest::{Method, Url};

/// Which decisions to find; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionFilter {
    /// Who asked.
    pub user_id: Option<String>,
    /// What was to be done.
    pub action: Option<String>,
    /// What it was to be done to.
    pub resource: Option<String>,
    /// The kind of request.
    pub kind: Option<String>,
    /// Whether the action was allowed.
    pub allowed: Option<bool>,
    /// The name of a decision policy that applied.
    pub policy: Option<String>,
    /// Made at this time (RFC 3339) or later.
    pub since: Option<String>,
    /// Made before this time (RFC 3339).
    pub until: Option<String>,
    /// At most so many, up to 1,000; the server's default when `None`.
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl DecisionFilter {
    fn write_to(&self, url: &mut Url) {
        let Self { user_id, action, resource, kind, allowed, policy, since, until, limit, after } = self;
        let texts = [
            ("userId", user_id.clone()),
            ("action", action.clone()),
            ("resource", resource.clone()),
            ("type", kind.clone()),
            ("allowed", allowed.map(|allowed| allowed.to_string())),
            ("policy", policy.clone()),
            ("since", since.clone()),
            ("until", until.clone()),
            ("limit", limit.map(|limit| limit.to_string())),
            ("after", after.clone()),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
    }
}

impl Client {
    /// Finds recorded decisions, the newest first.
    pub async fn logged_decisions(&self, filter: &DecisionFilter) -> Result<LoggedDecisions, Error> {
        let mut url = self.engine(&["audit", "logs"])?;
        filter.write_to(&mut url);
        self.plain(self.request(Method::GET, url)).await
    }

    /// Reads a recorded decision.
    pub async fn logged_decision(&self, decision_id: &str) -> Result<LoggedDecision, Error> {
        self.plain(self.request(Method::GET, self.engine(&["audit", "logs", decision_id])?)).await
    }
}
