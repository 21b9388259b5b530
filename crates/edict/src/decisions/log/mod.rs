//! The log of decisions: each is in a file before its reply leaves, and in the database a moment later.
//!
//! A decision costs a `write` into the system's cache of pages; a commit for each would cost a hundred times that. So the
//! files ([`spool`]) are what makes a decision last, and the table, which a chore fills from them ([`shipper`]), is what
//! queries look into.

mod context;
mod folder;
mod line;
pub(crate) mod query;
pub(crate) mod read;
mod row;
mod shipper;
mod spool;
mod stamp;
mod table;

pub(crate) use line::Entry;
pub(crate) use stamp::Stamp;

use crate::error::{ApiError, Code};
use crate::settings::Settings;
use crate::store::Store;
use folder::Folder;
use shipper::{Shipper, Step};
use spool::{Spool, SpoolError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use table::Table;
use tokio::sync::{Mutex, Notify};

/// How long entries are collected before they go to the database together.
const COLLECT: Duration = Duration::from_millis(50);
/// How long a query waits for entries to get into the table.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause after the database refused.
const PAUSE: Duration = Duration::from_secs(1);
/// How often this server looks for what others on the same data folder left.
const ADOPT: Duration = Duration::from_secs(30);

/// The log of one server's decisions.
pub(crate) struct DecisionLog {
    table: Arc<Table>,
    spool: Arc<Spool>,
    /// Held by whoever moves entries on: the chore, or a query that cannot wait for it.
    shipper: Mutex<Shipper>,
    /// There is something to move.
    some: Notify,
    /// Whether an entry is on the disk before its reply leaves.
    sync_each: bool,
    sync_every: Duration,
    keep: Option<Duration>,
    /// Entries are being refused: it is logged once.
    failing: AtomicBool,
}

impl DecisionLog {
    /// Opens the log of this server, and takes over what servers before it left in the data folder.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub(crate) fn open(settings: &Settings, store: Store) -> io::Result<Self> {
        let root = settings.data_dir.join("decisions");
        let most = settings.decision_log_spool_mb << 20;
        let spool = Arc::new(Spool::open(Folder::make(&root)?, most)?);
        let table = Arc::new(Table { store, root });
        let mut shipper = Shipper::new(Arc::clone(&table), Arc::clone(&spool));
        shipper.adopt()?;
        let some = Notify::new();
        some.notify_one();
        let days = settings.decision_log_retention_days;
        describe();
        Ok(Self {
            table,
            spool,
            shipper: Mutex::new(shipper),
            some,
            sync_each: settings.decision_log_sync_ms == 0,
            sync_every: Duration::from_millis(settings.decision_log_sync_ms.max(1)),
            keep: (days > 0).then(|| Duration::from_secs(days * 86_400)),
            failing: AtomicBool::new(false),
        })
    }

    /// Records a decision. Only when this returns may its reply leave.
    ///
    /// # Errors
    /// 503 when it could not be written: then the decision must not be given out.
    pub(crate) async fn record(&self, entry: &Entry<'_>) -> Result<(), ApiError> {
        let line = line::write(entry).map_err(ApiError::internal)?;
        let written = self.spool.append(&line);
        let done = match written {
            Ok(entries) if self.sync_each => self.spool.synced(entries).await,
            written => written.map(|_| ()),
        };
        match done {
            Ok(()) => {
                self.some.notify_one();
                if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("decisions can be recorded again");
                }
                Ok(())
            }
            Err(error) => Err(self.refuse(&error)),
        }
    }

    fn refuse(&self, error: &SpoolError) -> ApiError {
        metrics::counter!("edict_decision_log_failures_total").increment(1);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "decisions cannot be recorded, so none are given out");
        }
        ApiError::new(
            Code::StorageUnavailable,
            "the decision could not be recorded, so it is not given out; try again",
        )
        .retry_after(PAUSE)
    }

    /// Moves entries to the table, brings them to the disk and removes old ones, for as long as it is polled.
    pub(crate) async fn run(&self) {
        tokio::join!(self.ship(), self.sync(), self.adopt(), self.forget_old());
    }

    async fn ship(&self) {
        loop {
            self.some.notified().await;
            tokio::time::sleep(COLLECT).await;
            loop {
                let started = Instant::now();
                let step = self.shipper.lock().await.step().await;
                match step {
                    Ok(Step::Idle) => break,
                    Ok(Step::Done) => tokio::time::sleep(started.elapsed() * self.rest()).await,
                    Err(error) => {
                        tracing::warn!(error = error.message(), "recorded decisions stay in files for now");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// How many times longer than a batch took the pause after it is: the processor is for decisions first. The more
    /// waits, the shorter.
    fn rest(&self) -> u32 {
        let (held, most) = self.spool.load();
        match held.saturating_mul(8).checked_div(most.max(1)) {
            Some(0..=3) => 4,
            Some(4 | 5) => 1,
            _ => 0,
        }
    }

    async fn sync(&self) {
        loop {
            if self.sync_each {
                self.spool.sync_wanted().await;
            } else {
                tokio::time::sleep(self.sync_every).await;
            }
            if !self.spool.is_unsynced() {
                continue;
            }
            let spool = Arc::clone(&self.spool);
            let done = tokio::task::spawn_blocking(move || spool.sync()).await;
            if let Ok(Err(error)) = done {
                tracing::error!(%error, "recorded decisions cannot be brought to the disk");
                metrics::counter!("edict_decision_log_failures_total").increment(1);
            }
        }
    }

    async fn adopt(&self) {
        loop {
            tokio::time::sleep(ADOPT).await;
            match self.shipper.lock().await.adopt() {
                Ok(()) => self.some.notify_one(),
                Err(error) => tracing::warn!(%error, "cannot look for what former servers left"),
            }
        }
    }

    async fn forget_old(&self) {
        let Some(keep) = self.keep else { return };
        loop {
            match self.table.sweep(keep).await {
                Ok(()) => tokio::time::sleep(Duration::from_secs(600)).await,
                Err(error) => {
                    tracing::warn!(error = error.message(), "removing old decisions failed");
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
            }
        }
    }

    /// Returns when the table has all that was recorded before.
    ///
    /// # Errors
    /// When the database does not take it.
    pub(crate) async fn flush(&self) -> Result<(), ApiError> {
        let recorded = self.spool.recorded();
        let mut shipper = self.shipper.lock().await;
        while !shipper.has(recorded) {
            shipper.step().await?;
        }
        Ok(())
    }

    /// Waits until the table has all that was recorded before, but not for long; tells how many entries it lacks then.
    ///
    /// # Errors
    /// When the database does not take them.
    pub(crate) async fn catch_up(&self) -> Result<Option<u64>, ApiError> {
        match tokio::time::timeout(PATIENCE, self.flush()).await {
            Ok(done) => done.map(|()| None),
            Err(_) => Ok(Some(self.spool.pending())),
        }
    }

    /// Entries that the table does not have yet.
    pub(crate) fn pending(&self) -> u64 {
        self.spool.pending()
    }

    /// Tells the metrics what waits.
    #[expect(clippy::cast_precision_loss, reason = "far from where floats lose digits that matter")]
    pub(crate) fn gauge(&self) {
        let (held, _) = self.spool.load();
        metrics::gauge!("edict_decision_log_pending").set(self.pending() as f64);
        metrics::gauge!("edict_decision_log_spool_bytes").set(held as f64);
    }

    /// Brings everything to its place, when no more decisions are made. What the database does not take now stays in
    /// the files for the next server.
    pub(crate) async fn stop(&self, grace: Duration) {
        let spool = Arc::clone(&self.spool);
        let synced = tokio::task::spawn_blocking(move || spool.sync()).await;
        if !matches!(synced, Ok(Ok(()))) {
            tracing::error!("the last recorded decisions could not be brought to the disk");
        }
        match tokio::time::timeout(grace, self.flush()).await {
            Ok(Ok(())) => self.shipper.lock().await.close(),
            _ => tracing::warn!("recorded decisions stay in files until a server starts on this data folder"),
        }
    }
}

fn describe() {
    metrics::describe_gauge!(
        "edict_decision_log_pending",
        "Recorded decisions that are not in the table yet"
    );
    metrics::describe_gauge!("edict_decision_log_spool_bytes", "Size of the files of recorded decisions");
    metrics::describe_counter!(
        "edict_decision_log_failures_total",
        "Decisions that were not given out since they could not be recorded, and failed syncs"
    );
    metrics::describe_counter!(
        "edict_decision_log_damaged_total",
        "Recorded decisions that could not be read again"
    );
    // From 0, so that alerts see the first increase.
    for name in ["edict_decision_log_failures_total", "edict_decision_log_damaged_total"] {
        metrics::counter!(name).increment(0);
    }
}
