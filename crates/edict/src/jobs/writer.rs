//! Writes jobs, many in one transaction: each commit waits for the disk, so those that come at the same time share it.

use crate::error::ApiError;
use crate::store::{Statement, Store, StoreError};
use edict_filter::Dialect;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Writes in one transaction at most.
const MOST: usize = 64;

/// Writes that may wait before whoever comes next waits to be let in.
const QUEUE: usize = 4096;

/// One write.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Insert(Row),
    /// Replaces the row if it still has the revision before `row`'s, with what was logged meanwhile.
    Replace {
        row: Row,
        log: Option<LogRow>,
    },
    Log(LogRow),
}

/// A job's row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) job_id: String,
    pub(super) revision: u64,
    pub(super) doc: String,
    pub(super) runner_id: Option<String>,
    pub(super) ready_at: i64,
    /// What comes on top of the counts that are there.
    pub(super) lost: i64,
    pub(super) returned: i64,
}

/// What an attempt logged.
#[derive(Debug, Clone)]
pub(super) struct LogRow {
    pub(super) job_id: String,
    pub(super) attempt: u32,
    pub(super) first: u32,
    pub(super) records: String,
}

/// A write, and who waits for it.
type Order = (Write, oneshot::Sender<Result<bool, ApiError>>);

/// How long a write waits for others while many jobs run. A commit costs a job's share of the processor whether it
/// carries one write or ten.
const LINGER: Duration = Duration::from_millis(5);

/// Jobs that run while writes wait for one another; with fewer, none would come.
const MANY: usize = 4;

/// The way to the one task that writes.
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
    /// Jobs that run, as far as this process has seen them start and end.
    running: Arc<AtomicUsize>,
}

impl Writer {
    /// Starts the task; it ends with its last [`Writer`].
    pub(super) fn start(store: &Store) -> Self {
        let store = store.by_index();
        let (orders, mut inbox) = mpsc::channel(QUEUE);
        let running = Arc::<AtomicUsize>::default();
        let seen = Arc::clone(&running);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(MOST);
            while inbox.recv_many(&mut batch, MOST).await > 0 {
                gather(&mut inbox, &mut batch, seen.load(Ordering::Relaxed)).await;
                let mut rest = std::mem::take(&mut batch);
                while !rest.is_empty() {
                    let together;
                    (together, rest) = apart(rest);
                    write(&store, together).await;
                }
            }
        });
        Self { orders, running }
    }

    /// Says that so many jobs have started.
    pub(super) fn started(&self, jobs: usize) {
        self.running.fetch_add(jobs, Ordering::Relaxed);
    }

    /// Says that a job runs no more. One that another process saw start is not counted here.
    pub(super) fn ended(&self) {
        let less = |running: usize| running.checked_sub(1);
        self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }

    /// Writes, and returns when it is durable; false when the job has changed since.
    ///
    /// # Errors
    /// When the database does not take it; then it may have happened or not.
    pub(super) async fn write(&self, write: Write) -> Result<bool, ApiError> {
        let (answer, done) = oneshot::channel();
        self.orders
            .send((write, answer))
            .await
            .map_err(|_| ApiError::internal("the writer of jobs has ended"))?;
        done.await.map_err(|_| ApiError::internal("the writer of jobs gave no answer"))?
    }
}

/// Waits a moment for writes of the other jobs that run.
async fn gather(inbox: &mut mpsc::Receiver<Order>, batch: &mut Vec<Order>, running: usize) {
    let enough = running.min(MOST) / 2;
    if running < MANY || batch.len() >= enough {
        return;
    }
    let more = async { while batch.len() < enough && inbox.recv_many(batch, MOST).await > 0 {} };
    tokio::time::timeout(LINGER, more).await.ok();
}

/// Splits off what must come in a later transaction: second writes of a job, which would contend with its first.
fn apart(batch: Vec<Order>) -> (Vec<Order>, Vec<Order>) {
    let mut seen = HashSet::new();
    batch.into_iter().partition(|(write, _)| seen.insert(write.job_id().to_owned()))
}

async fn write(store: &Store, batch: Vec<Order>) {
    match try_write(store, batch.iter().map(|(write, _)| write)).await {
        Ok(done) => {
            for ((_, answer), done) in batch.into_iter().zip(done) {
                answer.send(Ok(done)).ok();
            }
        }
        // One that the database cannot take must not fail the others.
        Err(StoreError::Other(_) | StoreError::Exists) if batch.len() > 1 => {
            for (write, answer) in batch {
                let done = try_write(store, std::iter::once(&write)).await;
                answer.send(done.map(|done| done.first() == Some(&true)).map_err(ApiError::from)).ok();
            }
        }
        Err(error) => {
            let error = ApiError::from(error);
            for (_, answer) in batch {
                answer.send(Err(error.clone())).ok();
            }
        }
    }
}

/// Writes everything in one transaction; tells of each whether it was done.
async fn try_write(store: &Store, batch: impl Iterator<Item = &Write>) -> Result<Vec<bool>, StoreError> {
    let (mut inserts, mut replaces, mut logs) = (Rows::default(), Rows::default(), Rows::default());
    let ids: Vec<(&str, bool)> = batch
        .map(|write| {
            match write {
                Write::Insert(row) => inserts.add(row),
                Write::Log(log) => logs.add(log),
                Write::Replace { row, log } => {
                    replaces.add(row);
                    // That of an attempt which has no say any more does no harm.
                    log.iter().for_each(|log| logs.add(log));
                }
            }
            (write.job_id(), matches!(write, Write::Replace { .. }))
        })
        .collect();
    let sql = match store.dialect() {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
    };
    let all = [inserts, replaces, logs].into_iter();
    let statement = all.fold(Statement::new(sql), |statement, rows| statement.bind(array(rows.0)));
    let replaced = store.at_once::<(String,)>(statement).await?;
    let replaced: HashSet<String> = replaced.into_iter().map(|(job_id,)| job_id).collect();
    Ok(ids.into_iter().map(|(job_id, replaces)| !replaces || replaced.contains(job_id)).collect())
}

/// Rows as JSON objects, which one statement takes as a list: its text is the same for any number of them.
#[derive(Default)]
struct Rows(Vec<String>);

impl Rows {
    fn add(&mut self, row: &impl ToString) {
        self.0.push(row.to_string());
    }
}

fn array(rows: Vec<String>) -> String {
    format!("[{}]", rows.join(","))
}

/// Records that were sent before without being acknowledged come again, with those that followed.
///
/// INVARIANT (one-change): a job's row changes only from the revision that the change was made from, and a record in a
/// final state is never changed: so each job has one final state, and an attempt that was taken away, given up or
/// cancelled has no say any more.
const SQLITE: &str = "INSERT INTO jobs (key, revision, doc, runner_id, ready_at, lost, returned, \
     job_status, name, executor_id, policy_rule_uri, created_at) \
     SELECT value->>'$.key', value->>'$.revision', value->>'$.doc', value->>'$.runner_id', value->>'$.ready_at', \
     value->>'$.lost', value->>'$.returned', value->>'$.doc.job_status', value->>'$.doc.name', \
     value->>'$.doc.executor_id', value->>'$.doc.policy_rule_uri', value->>'$.doc.created_at' FROM json_each($1); \
     INSERT INTO job_logs (job_id, attempt, first, records) \
     SELECT value->>'$.job_id', value->>'$.attempt', value->>'$.first', value->>'$.records' FROM json_each($3) \
     WHERE true ON CONFLICT (job_id, attempt, first) DO UPDATE SET records = excluded.records; \
     UPDATE jobs SET revision = r.revision, doc = r.doc, runner_id = r.runner_id, \
     ready_at = r.ready_at, lost = jobs.lost + r.lost, returned = jobs.returned + r.returned, \
     job_status = r.job_status, finished_at = r.finished_at FROM (\
     SELECT value->>'$.doc.job_status' AS job_status, value->>'$.doc.finished_at' AS finished_at, \
     value->>'$.key' AS key, value->>'$.revision' AS revision, value->>'$.doc' AS doc, \
     value->>'$.runner_id' AS runner_id, value->>'$.ready_at' AS ready_at, value->>'$.lost' AS lost, \
     value->>'$.returned' AS returned FROM json_each($2)) AS r \
     WHERE jobs.key = r.key AND jobs.revision = r.revision - 1 RETURNING key";

/// All three in one statement, which is its own transaction: one round trip, one commit.
const POSTGRES: &str = "WITH inserted AS (\
     INSERT INTO jobs (key, revision, doc, runner_id, ready_at, lost, returned, \
     job_status, name, executor_id, policy_rule_uri, created_at) \
     SELECT key, revision, doc, runner_id, ready_at, lost, returned, doc->>'job_status', doc->>'name', \
     doc->>'executor_id', doc->>'policy_rule_uri', doc->>'created_at' FROM jsonb_to_recordset($1::jsonb) AS r (\
     key text, revision bigint, doc jsonb, runner_id text, ready_at bigint, lost bigint, returned bigint)\
     ), logged AS (\
     INSERT INTO job_logs (job_id, attempt, first, records) \
     SELECT job_id, attempt, first, records FROM jsonb_to_recordset($3::jsonb) AS r (\
     job_id text, attempt bigint, first bigint, records text) \
     ON CONFLICT (job_id, attempt, first) DO UPDATE SET records = excluded.records\
     ) UPDATE jobs SET revision = r.revision, doc = r.doc, runner_id = r.runner_id, ready_at = r.ready_at, \
     lost = jobs.lost + r.lost, returned = jobs.returned + r.returned, \
     job_status = r.doc->>'job_status', finished_at = r.doc->>'finished_at' FROM jsonb_to_recordset($2::jsonb) AS r (\
     key text, revision bigint, doc jsonb, runner_id text, ready_at bigint, lost bigint, returned bigint) \
     WHERE jobs.key = r.key AND jobs.revision = r.revision - 1 RETURNING jobs.key";

impl Write {
    fn job_id(&self) -> &str {
        match self {
            Self::Insert(row) | Self::Replace { row, .. } => &row.job_id,
            Self::Log(log) => &log.job_id,
        }
    }
}

impl fmt::Display for Row {
    /// As a JSON object; ids are made of characters that need no escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job_id, revision, doc, runner_id, ready_at, lost, returned } = self;
        let runner_id = serde_json::Value::from(runner_id.clone());
        write!(
            f,
            "{{\"key\":\"{job_id}\",\"revision\":{revision},\"runner_id\":{runner_id},\"ready_at\":{ready_at},\
             \"lost\":{lost},\"returned\":{returned},\"doc\":{doc}}}"
        )
    }
}

impl fmt::Display for LogRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job_id, attempt, first, records } = self;
        let object =
            serde_json::json!({"job_id": job_id, "attempt": attempt, "first": first, "records": records});
        object.fmt(f)
    }
}
