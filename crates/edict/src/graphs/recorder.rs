//! Recording runs behind their replies: a commit is a wait for the disk, which callers of graphs shall not notice.
//!
//! Runs are collected for a moment and written together. What waits is bounded by its size; beyond it callers do wait,
//! so that a slow database slows graphs down instead of losing their runs. Only the sudden end of the process loses
//! what it has not written yet, a twentieth of a second of it.

use super::RUNS;
use crate::error::ApiError;
use crate::store::{Statement, Store, StoreError};
use edict_client::records::GraphRun;
use edict_filter::Dialect;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long runs are collected before they are written together.
const COLLECT: Duration = Duration::from_millis(50);
/// How many runs are written at once.
const BATCH: usize = 256;
/// Bytes of runs that may wait to be written.
const ROOM: usize = 64 << 20;
/// Pause after the database refused.
const PAUSE: Duration = Duration::from_secs(1);

/// The runs of one server that are not in the database yet.
pub(super) struct Recorder {
    store: Store,
    waiting: Mutex<Waiting>,
    /// Held by whoever writes: runs are taken off the queue only after they have been committed.
    writing: tokio::sync::Mutex<()>,
    /// Something waits.
    some: Notify,
    /// A whole batch waits.
    full: Notify,
    /// There is room again.
    room: Notify,
}

/// Runs in the order of their ends.
#[derive(Default)]
struct Waiting {
    runs: VecDeque<Arc<GraphRun>>,
    bytes: usize,
}

impl Recorder {
    pub(super) fn new(store: Store) -> Self {
        let (waiting, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { store, waiting, writing, some: Notify::new(), full: Notify::new(), room: Notify::new() }
    }

    /// Takes in a run; it will be written soon. Waits while there is no room.
    pub(super) async fn record(&self, run: GraphRun) {
        loop {
            let room = self.room.notified();
            if self.waiting().bytes < ROOM {
                break;
            }
            // Whoever waits helps along: nobody else does once the server stops.
            if self.flush().await.is_err() {
                tokio::time::timeout(PAUSE, room).await.ok();
            }
        }
        self.record_now(run);
    }

    /// Takes in a run even without room, for those that cannot wait.
    pub(super) fn record_now(&self, run: GraphRun) {
        let waiting = {
            let mut waiting = self.waiting();
            waiting.bytes += size(&run);
            waiting.runs.push_back(Arc::new(run));
            waiting.runs.len()
        };
        self.some.notify_one();
        if waiting >= BATCH {
            self.full.notify_one();
        }
    }

    /// Writes what was recorded, a moment later, for as long as it is polled.
    pub(super) async fn write_behind(&self) {
        loop {
            self.some.notified().await;
            tokio::time::timeout(COLLECT, self.full.notified()).await.ok();
            while let Err(error) = self.flush().await {
                tracing::warn!(error = error.message(), "graph runs cannot be recorded yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Writes everything that was recorded until now.
    pub(super) async fn flush(&self) -> Result<(), ApiError> {
        let _writing = self.writing.lock().await;
        loop {
            let batch: Vec<Arc<GraphRun>> = self.waiting().runs.iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return Ok(());
            }
            self.write(&batch).await?;
            {
                let mut waiting = self.waiting();
                for run in waiting.runs.drain(..batch.len()).collect::<Vec<_>>() {
                    waiting.bytes = waiting.bytes.saturating_sub(size(&run));
                }
            }
            self.room.notify_waiters();
        }
    }

    async fn write(&self, batch: &[Arc<GraphRun>]) -> Result<(), ApiError> {
        let rows: Vec<(&str, String)> =
            batch.iter().map(|run| Ok((run.run_id.as_str(), text(run)?))).collect::<Result<_, ApiError>>()?;
        match self.insert(&rows).await {
            Err(StoreError::Other(_)) => {}
            done => return Ok(done?),
        }
        // One of them holds what the database cannot, such as a NUL character in an output: the others must not be
        // lost with it, and of it everything but the data is kept.
        for (run, row) in batch.iter().zip(rows) {
            match self.insert(&[row]).await {
                Err(StoreError::Other(error)) => {
                    tracing::warn!(run = run.run_id, %error, "a graph run is recorded without its data");
                    self.insert(&[(run.run_id.as_str(), text(&without_data(run))?)]).await?;
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// One statement, one transaction. A run that is there already was written by someone who was stopped before they
    /// could say so.
    async fn insert(&self, rows: &[(&str, String)]) -> Result<(), StoreError> {
        let cast = if self.store.dialect() == Dialect::Postgres { "::jsonb" } else { "" };
        let mut sql = format!("INSERT INTO {} (key, doc, revision) VALUES ", RUNS.name);
        for number in 0..rows.len() {
            let (comma, key, doc) = (if number == 0 { "" } else { ", " }, 2 * number + 1, 2 * number + 2);
            // Writing to text cannot fail.
            write!(sql, "{comma}(${key}, ${doc}{cast}, 1)").ok();
        }
        sql.push_str(" ON CONFLICT (key) DO NOTHING");
        let mut statement = Statement::new(sql);
        for (key, doc) in rows {
            statement = statement.bind(*key).bind(doc.as_str());
        }
        self.store.execute(statement).await.map(|_| ())
    }

    /// Removes runs that began longer ago than `age`.
    pub(super) async fn sweep(&self, age: Duration) -> Result<u64, ApiError> {
        let before = crate::timestamp(time::OffsetDateTime::now_utc() - age);
        let sql = format!("DELETE FROM {} WHERE started_at < $1", RUNS.name);
        Ok(self.store.execute(Statement::new(sql).bind(before)).await?)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how much memory a run takes.
fn size(run: &GraphRun) -> usize {
    const NODE: usize = 200;
    let text =
        |text: &Option<Box<serde_json::value::RawValue>>| text.as_ref().map_or(0, |text| text.get().len());
    let nodes = run.nodes.iter().map(|node| NODE + text(&node.input) + text(&node.output)).sum::<usize>();
    NODE + nodes + run.input_data.get().len() + text(&run.output)
}

fn text(run: &GraphRun) -> Result<String, ApiError> {
    serde_json::to_string(run).map_err(ApiError::internal)
}

fn without_data(run: &GraphRun) -> GraphRun {
    let mut bare = GraphRun { input_data: Box::default(), output: None, ..run.clone() };
    for node in &mut bare.nodes {
        (node.input, node.output) = (None, None);
    }
    let faults = bare.nodes.iter_mut().filter_map(|node| node.error.as_mut());
    for fault in faults.chain(bare.error.as_mut()) {
        fault.details = serde_json::Value::Null;
        fault.message = fault.message.replace('\0', "\u{fffd}");
    }
    bare
}
