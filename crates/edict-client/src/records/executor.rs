//! Policy executors: the processes that run policies.

use super::Object;
use serde::{Deserialize, Serialize};

/// A policy executor as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Executor {
    /// 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub executor_id: String,
    /// Where the executor serves, for example `http://10.0.0.7:10250`; absent until infrastructure exists.
    #[serde(default)]
    pub executor_host_uri: Option<String>,
    /// Tags, description, labels.
    #[serde(default)]
    pub executor_metadata: Object,
    /// Nodes, vcpus, memory and swap in MB, storage, network.
    #[serde(default)]
    pub executor_hardware_info: Object,
    /// Set by the server from heartbeats and from calls that failed.
    #[serde(default)]
    pub executor_status: ExecutorStatus,
    /// Kept for records of the older system; not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_public_ip: Option<String>,
    /// When the record was made; set by the server.
    #[serde(default)]
    pub created_at: String,
    /// When the record last changed; set by the server.
    #[serde(default)]
    pub updated_at: String,
    /// 1, 2, …; set by the server, and what `If-Match` compares.
    #[serde(default)]
    pub revision: u64,
}

impl Executor {
    /// Every field that a payload may hold.
    pub const fn known_fields() -> &'static [&'static str] {
        &[
            "executor_id",
            "executor_host_uri",
            "executor_metadata",
            "executor_hardware_info",
            "executor_status",
            "cluster_public_ip",
            "created_at",
            "updated_at",
            "revision",
        ]
    }
}

/// Whether work can be sent to an executor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExecutorStatus {
    /// Reachable and with room.
    #[default]
    Healthy,
    /// Reachable, but every slot is taken.
    Busy,
    /// Its heartbeat stopped or a call to it failed.
    Unreachable,
    /// Registered, but it has no address yet.
    Pending,
}

impl ExecutorStatus {
    /// The word that travels over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Pending => "pending",
        }
    }
}
