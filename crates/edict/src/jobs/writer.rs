//! Writes jobs, many in one transaction: each commit waits for the disk, so those that come at the same time share it.

use crate::error::ApiError;
use crate::store::{Statement, Store, StoreError};
use edict_filter::Dialect;
use std::collections::HashSet;
use std::fmt;
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

type Answer = oneshot::Sender<Result<bool, ApiError>>;

/// The way to the one task that writes.
pub(super) struct Writer(mpsc::Sender<(Write, Answer)>);

impl Writer {
    /// Starts the task; it ends with its last [`Writer`].
    pub(super) fn start(store: Store) -> Self {
        let (sender, mut inbox) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(MOST);
            while inbox.recv_many(&mut batch, MOST).await > 0 {
                let mut rest = std::mem::take(&mut batch);
                while !rest.is_empty() {
                    let together;
                    (together, rest) = apart(rest);
                    write(&store, together).await;
                }
            }
        });
        Self(sender)
    }

    /// Writes, and returns when it is durable; false when the job has changed since.
    ///
    /// # Errors
    /// When the database does not take it; then it may have happened or not.
    pub(super) async fn write(&self, write: Write) -> Result<bool, ApiError> {
        let (answer, done) = oneshot::channel();
        self.0.send((write, answer)).await.map_err(|_| ApiError::internal("the writer of jobs has ended"))?;
        done.await.map_err(|_| ApiError::internal("the writer of jobs gave no answer"))?
    }
}

/// Splits off what must come in a later transaction: second writes of a job, which would contend with its first.
fn apart(batch: Vec<(Write, Answer)>) -> (Vec<(Write, Answer)>, Vec<(Write, Answer)>) {
    let mut seen = HashSet::new();
    batch.into_iter().partition(|(write, _)| seen.insert(write.job_id().to_owned()))
}

async fn write(store: &Store, batch: Vec<(Write, Answer)>) {
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
    let replaced = match store.dialect() {
        Dialect::Sqlite => sqlite(store, inserts, replaces, logs).await?,
        Dialect::Postgres => {
            let all = [inserts, replaces, logs].map(|rows| rows.0).into_iter();
            let statement = all.fold(Statement::new(POSTGRES), |statement, rows| statement.bind(array(rows)));
            store.fetch::<(String,)>(statement).await?
        }
    };
    let replaced: HashSet<String> = replaced.into_iter().map(|(job_id,)| job_id).collect();
    Ok(ids.into_iter().map(|(job_id, replaces)| !replaces || replaced.contains(job_id)).collect())
}

async fn sqlite(
    store: &Store,
    inserts: Rows,
    replaces: Rows,
    logs: Rows,
) -> Result<Vec<(String,)>, StoreError> {
    let mut tx = store.begin().await?;
    for (sql, rows) in [(SQLITE_INSERT, inserts), (SQLITE_LOG, logs)] {
        if !rows.0.is_empty() {
            tx.execute(Statement::new(sql).bind(array(rows.0))).await?;
        }
    }
    let replaced = match replaces.0.is_empty() {
        true => Vec::new(),
        false => tx.fetch(Statement::new(SQLITE_REPLACE).bind(array(replaces.0))).await?,
    };
    tx.commit().await?;
    Ok(replaced)
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

/// INVARIANT (one-change): a job's row changes only from the revision that the change was made from, and a record in a
/// final state is never changed: so each job has one final state, and an attempt that was taken away, given up or
/// cancelled has no say any more.
const SQLITE_REPLACE: &str = "UPDATE jobs SET revision = r.revision, doc = r.doc, runner_id = r.runner_id, \
     ready_at = r.ready_at, lost = jobs.lost + r.lost, returned = jobs.returned + r.returned FROM (\
     SELECT value->>'$.key' AS key, value->>'$.revision' AS revision, value->>'$.doc' AS doc, \
     value->>'$.runner_id' AS runner_id, value->>'$.ready_at' AS ready_at, value->>'$.lost' AS lost, \
     value->>'$.returned' AS returned FROM json_each($1)) AS r \
     WHERE jobs.key = r.key AND jobs.revision = r.revision - 1 RETURNING key";

const SQLITE_INSERT: &str = "INSERT INTO jobs (key, revision, doc, runner_id, ready_at, lost, returned) \
     SELECT value->>'$.key', value->>'$.revision', value->>'$.doc', value->>'$.runner_id', value->>'$.ready_at', \
     value->>'$.lost', value->>'$.returned' FROM json_each($1)";

/// Records that were sent before without being acknowledged come again, with those that followed.
const SQLITE_LOG: &str = "INSERT INTO job_logs (job_id, attempt, first, records) \
     SELECT value->>'$.job_id', value->>'$.attempt', value->>'$.first', value->>'$.records' FROM json_each($1) \
     WHERE true ON CONFLICT (job_id, attempt, first) DO UPDATE SET records = excluded.records";

/// All three in one statement, which is its own transaction: one round trip, one commit.
const POSTGRES: &str = "WITH inserted AS (\
     INSERT INTO jobs (key, revision, doc, runner_id, ready_at, lost, returned) \
     SELECT key, revision, doc, runner_id, ready_at, lost, returned FROM jsonb_to_recordset($1::jsonb) AS r (\
     key text, revision bigint, doc jsonb, runner_id text, ready_at bigint, lost bigint, returned bigint)\
     ), logged AS (\
     INSERT INTO job_logs (job_id, attempt, first, records) \
     SELECT job_id, attempt, first, records FROM jsonb_to_recordset($3::jsonb) AS r (\
     job_id text, attempt bigint, first bigint, records text) \
     ON CONFLICT (job_id, attempt, first) DO UPDATE SET records = excluded.records\
     ) UPDATE jobs SET revision = r.revision, doc = r.doc, runner_id = r.runner_id, ready_at = r.ready_at, \
     lost = jobs.lost + r.lost, returned = jobs.returned + r.returned FROM jsonb_to_recordset($2::jsonb) AS r (\
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
