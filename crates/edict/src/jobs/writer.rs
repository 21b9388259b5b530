//! Writes jobs, many in one transaction: each commit waits for the disk, so those that come at the same time share it.

use crate::error::ApiError;
use crate::store::{Statement, Store, StoreError, Tx};
use edict_filter::Dialect;
use std::collections::HashSet;
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

async fn try_write(store: &Store, batch: impl Iterator<Item = &Write>) -> Result<Vec<bool>, StoreError> {
    let mut tx = store.begin().await?;
    let mut done = Vec::new();
    for write in batch {
        done.push(write.carry_out(&mut tx, store.dialect()).await?);
    }
    tx.commit().await?;
    Ok(done)
}

impl Write {
    fn job_id(&self) -> &str {
        match self {
            Self::Insert(row) | Self::Replace { row, .. } => &row.job_id,
            Self::Log(log) => &log.job_id,
        }
    }

    async fn carry_out(&self, tx: &mut Tx, dialect: Dialect) -> Result<bool, StoreError> {
        match self {
            Self::Insert(row) => tx.execute(row.insert(dialect)).await.map(|_| true),
            Self::Log(log) => tx.execute(log.upsert()).await.map(|_| true),
            Self::Replace { row, log } => {
                if tx.execute(row.replace(dialect)).await? == 0 {
                    return Ok(false);
                }
                if let Some(log) = log {
                    tx.execute(log.upsert()).await?;
                }
                Ok(true)
            }
        }
    }
}

impl Row {
    fn bound(&self, sql: String) -> Statement {
        Statement::new(sql)
            .bind(self.job_id.as_str())
            .bind(i64::try_from(self.revision).unwrap_or(i64::MAX))
            .bind(self.doc.as_str())
            .bind(self.runner_id.clone())
            .bind(self.ready_at)
            .bind(self.lost)
            .bind(self.returned)
    }

    fn insert(&self, dialect: Dialect) -> Statement {
        let doc = document(dialect);
        self.bound(format!(
            "INSERT INTO jobs (key, revision, doc, runner_id, ready_at, lost, returned) \
             VALUES ($1, $2, {doc}, $4, $5, $6, $7)"
        ))
    }

    /// INVARIANT (one-change): a job's row changes only from the revision that the change was made from, and a record
    /// in a final state is never changed: so each job has one final state, and an attempt that was taken away, given
    /// up or cancelled has no say any more.
    fn replace(&self, dialect: Dialect) -> Statement {
        let doc = document(dialect);
        self.bound(format!(
            "UPDATE jobs SET revision = $2, doc = {doc}, runner_id = $4, ready_at = $5, lost = lost + $6, \
             returned = returned + $7 \
             WHERE key = $1 AND revision = $2 - 1"
        ))
    }
}

fn document(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "$3",
        Dialect::Postgres => "$3::jsonb",
    }
}

impl LogRow {
    /// Records that were sent before without being acknowledged come again, with those that followed.
    fn upsert(&self) -> Statement {
        let sql = "INSERT INTO job_logs (job_id, attempt, first, records) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (job_id, attempt, first) DO UPDATE SET records = excluded.records";
        Statement::new(sql)
            .bind(self.job_id.as_str())
            .bind(i64::from(self.attempt))
            .bind(i64::from(self.first))
            .bind(self.records.as_str())
    }
}
