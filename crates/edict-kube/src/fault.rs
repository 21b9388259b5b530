//! What can go wrong between Edict and a cluster, and what the API server's answers mean.

use crate::words;
use kube::core::Status;
use std::fmt;
use std::time::Duration;

/// Why an action, or a look at the cluster, came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The pod or deployment is not there.
    #[error("there is no {kind} `{name}` in namespace `{namespace}`")]
    NotFound {
        /// `pod` or `deployment`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The target's state forbids it, or somebody else changed it in between. Nothing was done.
    #[error("{why}")]
    Conflict {
        /// What is in the way.
        why: String,
    },
    /// There is no such revision to go back to.
    #[error("{why}")]
    NoRevision {
        /// Which one is missing, and which there are.
        why: String,
    },
    /// The cluster's roles do not let Edict do this.
    #[error(
        "the cluster does not let Edict {right}: add the right to the role of the account it uses (deploy/rbac.yaml has those \
         of the action executor)"
    )]
    Forbidden {
        /// What is missing.
        right: Right,
    },
    /// The cluster does not know who Edict is: its token or certificate has expired or is wrong.
    #[error("the cluster does not accept Edict's credentials: {message}")]
    Unauthorized {
        /// The words of the API server, or of what fetches the credentials.
        message: String,
    },
    /// The API server cannot be reached, broke the connection, or answered with an error of its own.
    #[error("the cluster's API server is not available: {message}")]
    Unavailable {
        /// What happened.
        message: String,
        /// A change was sent, and whether it happened is not known.
        uncertain: bool,
    },
    /// The API server did not answer in time.
    #[error("the cluster's API server did not answer within {} s", .after.as_secs_f64())]
    Timeout {
        /// How long it had.
        after: Duration,
        /// A change was sent, and whether it happened is not known.
        uncertain: bool,
    },
    /// The API server has too much to do. Nothing was done.
    #[error("the cluster's API server has too much to do: try again in {} s", .retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The API server, or an admission webhook, did not take the change; or the action names something that cannot exist.
    /// Nothing was done.
    #[error("{message}")]
    Refused {
        /// Its words.
        message: String,
    },
}

/// A right in the sense of Kubernetes' roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// `get`, `list`, `watch`, `create`, `patch`, `delete`.
    pub verb: &'static str,
    /// With its API group: `pods`, `deployments.apps`.
    pub resource: String,
    /// Where; empty: in the whole cluster.
    pub namespace: String,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        match self.namespace.as_str() {
            "" => formatter.write_str(" in the whole cluster"),
            namespace => write!(formatter, " in namespace `{namespace}`"),
        }
    }
}

impl Right {
    /// Whether it changes something.
    pub(crate) fn changes(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

impl Fault {
    /// Whether the change may have happened: it was sent, and no answer came. [`Cluster::shows`](crate::Cluster::shows)
    /// tells.
    #[must_use]
    pub fn uncertain(&self) -> bool {
        matches!(self, Self::Unavailable { uncertain: true, .. } | Self::Timeout { uncertain: true, .. })
    }

    /// The same, of a request that could not change anything.
    pub(crate) fn without_effect(mut self) -> Self {
        if let Self::Unavailable { uncertain, .. } | Self::Timeout { uncertain, .. } = &mut self {
            *uncertain = false;
        }
        self
    }

    /// What an answer other than success means.
    pub(crate) fn answer(status: &Status, retry_after: Option<Duration>, right: &Right) -> Self {
        let said = match status.message.trim() {
            "" => format!("HTTP status {}", status.code),
            message => message.to_owned(),
        };
        match status.code {
            401 => Self::Unauthorized { message: said },
            // Quotas and admission webhooks answer 403 as well, in other words.
            403 if said.contains(" cannot ") => Self::Forbidden { right: right.clone() },
            409 => Self::Conflict { why: said },
            429 => {
                let named = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                let named = Duration::from_secs(named.max(1).into());
                Self::Busy { retry_after: retry_after.unwrap_or(named) }
            }
            500.. => Self::Unavailable { message: said, uncertain: right.changes() },
            _ => Self::Refused { message: said },
        }
    }

    /// What an error on the way to the answer means.
    pub(crate) fn transport(error: &kube::Error, right: &Right) -> Self {
        let mut cause: &(dyn std::error::Error + 'static) = error;
        let mut connected = true;
        loop {
            if let Some(error) = cause.downcast_ref() {
                return Self::Unauthorized { message: words::credentials(error) };
            }
            if let Some(error) = cause.downcast_ref::<hyper_util::client::legacy::Error>() {
                connected &= !error.is_connect();
            }
            match cause.source() {
                Some(deeper) => cause = deeper,
                None => break,
            }
        }
        Self::Unavailable { message: cause.to_string(), uncertain: connected && right.changes() }
    }
}
