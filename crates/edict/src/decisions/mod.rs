//! The policy engine: decisions, and the policies behind them.
//!
//! `edict-engine` decides; this room gives it what it does not have: policies from the database and the watched folder,
//! the clock, who asks, the answers of Python policies, and the log of what was decided.

pub(crate) mod batch;
pub(crate) mod create;
mod decide;
pub(crate) mod delete;
pub(crate) mod evaluate;
pub(crate) mod folder;
mod force;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod log;
mod origin;
mod python;
pub(crate) mod query;
pub(crate) mod read;
mod record;
mod starter;
pub(crate) mod update;

pub(crate) use origin::Origin;

use crate::error::{ApiError, Code};
use crate::execution::Runner;
use crate::settings::Settings;
use crate::store::Store;
use crate::store::documents::Collection;
use arc_swap::ArcSwap;
use decide::Meters;
use edict_filter::{Column, Kind, Table};
use folder::Folder;
use force::InForce;
use log::DecisionLog;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

const DECISION_POLICIES: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "id", sql: "key", kind: Kind::Text },
            Column { path: "name", sql: "name", kind: Kind::Text },
            Column { path: "type", sql: "type", kind: Kind::Text },
            Column { path: "effect", sql: "effect", kind: Kind::Text },
            Column { path: "createdAt", sql: "created_at", kind: Kind::Text },
            Column { path: "updatedAt", sql: "updated_at", kind: Kind::Text },
        ],
    },
    name: "decision_policies",
    noun: "decision policy",
    own_fields: &record::OWN_FIELDS,
    not_found: Code::DecisionPolicyNotFound,
    exists: Code::DecisionPolicyExists,
};

/// Why a server cannot decide.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("setting `decisions_dir`: {0}")]
    Folder(String),
    #[error("the decision policies cannot be read: {}", .0.message())]
    Policies(#[from] ApiError),
}

/// The policy engine of one server.
pub(crate) struct Decisions {
    store: Store,
    runner: Arc<Runner>,
    log: Arc<DecisionLog>,
    /// How long a decision waits for Python policies.
    patience: Duration,
    folder: Folder,
    /// What decides. Swapped as a whole, so that no evaluation sees half a change.
    force: ArcSwap<InForce>,
    /// Grows with each wish that what is in force be made anew; [`Decisions::reload`] says how it is used.
    wishes: AtomicU64,
    /// The last wish that was fulfilled.
    fulfilled: Mutex<u64>,
    /// Rung when something may have changed that nobody waits for.
    bell: Notify,
    meters: Meters,
}

impl Decisions {
    /// Reads the folder, registers the starter set on the first start with a database, and puts all policies into force.
    ///
    /// # Errors
    /// When the database does not answer, or the folder's policies cannot be used: without its denies, more might be
    /// allowed than should be.
    pub(crate) async fn open(
        settings: &Settings,
        store: Store,
        runner: Arc<Runner>,
        log: Arc<DecisionLog>,
    ) -> Result<Self, OpenError> {
        let decisions = Self {
            store,
            runner,
            log,
            patience: Duration::from_millis(settings.decision_timeout_ms),
            folder: Folder::open(&settings.decisions_dir).await?,
            force: ArcSwap::default(),
            wishes: AtomicU64::new(0),
            fulfilled: Mutex::new(0),
            bell: Notify::new(),
            meters: Meters::new(),
        };
        if settings.decisions_starter {
            decisions.register_starter().await?;
        }
        decisions.reload().await?;
        match &decisions.in_force().clash {
            Some(fault) => Err(OpenError::Folder(fault.clone())),
            None => Ok(decisions),
        }
    }
}
