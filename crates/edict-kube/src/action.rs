//! What can be done.

use crate::Fault;
use crate::names;

/// An action on one pod or deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Deletes a pod so that its controller makes a new one.
    RestartPod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod_name: String,
        /// Also when nothing would bring it back.
        force: bool,
    },
    /// Deletes a pod, whether or not it comes back.
    DeletePod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod_name: String,
    },
    /// Sets how many pods a deployment has.
    ScaleDeployment {
        /// The deployment's namespace.
        namespace: String,
        /// The deployment's name.
        deployment_name: String,
        /// How many pods there are to be.
        replicas: i32,
    },
    /// Gives a deployment the pod template of an earlier revision, as `kubectl rollout undo` does.
    RollbackDeployment {
        /// The deployment's namespace.
        namespace: String,
        /// The deployment's name.
        deployment_name: String,
        /// The revision to go back to; none, or 0, is the one before the current.
        revision: Option<i64>,
    },
    /// Replaces all pods of a deployment, as `kubectl rollout restart` does.
    RestartDeployment {
        /// The deployment's namespace.
        namespace: String,
        /// The deployment's name.
        deployment_name: String,
    },
}

impl Action {
    /// The namespace that it happens in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::RestartPod { namespace, .. }
            | Self::DeletePod { namespace, .. }
            | Self::ScaleDeployment { namespace, .. }
            | Self::RollbackDeployment { namespace, .. }
            | Self::RestartDeployment { namespace, .. } => namespace,
        }
    }

    /// The name of its pod or deployment.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::RestartPod { pod_name, .. } | Self::DeletePod { pod_name, .. } => pod_name,
            Self::ScaleDeployment { deployment_name, .. }
            | Self::RollbackDeployment { deployment_name, .. }
            | Self::RestartDeployment { deployment_name, .. } => deployment_name,
        }
    }

    /// Checked before anything else is done with an action.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        names::check("namespace", self.namespace(), names::is_label)?;
        names::check("name", self.name(), names::is_subdomain)
    }
}
