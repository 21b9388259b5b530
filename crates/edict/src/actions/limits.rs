//! How often actions of a kind are carried out, by all servers together.

use crate::audit::Limit;
use crate::error::{ApiError, Code};
use crate::settings::Settings;
use edict_kube::Action;
use std::time::Duration;

/// Actions that share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Restart,
    Scale,
    Rollback,
}

impl Kind {
    pub(super) const fn of(action: &Action) -> Self {
        match action {
            Action::RestartPod { .. } | Action::DeletePod { .. } | Action::RestartDeployment { .. } => {
                Self::Restart
            }
            Action::ScaleDeployment { .. } => Self::Scale,
            Action::RollbackDeployment { .. } => Self::Rollback,
        }
    }

    /// As the audit trail counts it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Scale => "scale",
            Self::Rollback => "rollback",
        }
    }

    pub(super) const fn limit(self, settings: &Settings) -> Limit {
        let (ttl, max) = match self {
            Self::Restart => (settings.rate_limit_restart_ttl, settings.rate_limit_restart_max),
            Self::Scale => (settings.rate_limit_scale_ttl, settings.rate_limit_scale_max),
            Self::Rollback => (settings.rate_limit_rollback_ttl, settings.rate_limit_rollback_max),
        };
        Limit { ttl: Duration::from_secs(ttl), max }
    }

    /// What is said to one who comes too often; there is room again after `wait`.
    pub(super) fn refusal(self, limit: Limit, wait: Duration) -> ApiError {
        // Up to the next second: who comes back a moment early would be refused again.
        let wait = Duration::from_secs(wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX));
        let (kind, max, ttl) = (self.as_str(), limit.max, limit.ttl.as_secs());
        let upper = kind.to_uppercase();
        ApiError::new(
            Code::RateLimited,
            format!(
                "no more than {max} actions of the kind `{kind}` are carried out within {ttl} s \
                 (RATE_LIMIT_{upper}_MAX, RATE_LIMIT_{upper}_TTL); try again in {} s",
                wait.as_secs()
            ),
        )
        .retry_after(wait)
    }
}
