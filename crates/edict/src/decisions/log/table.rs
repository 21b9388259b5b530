//! The table of decisions.

use super::line::Line;
use super::stamp;
use crate::error::ApiError;
use crate::store::{Statement, Store, StoreError};
use std::fmt::{Display, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Entries removed in one statement.
const SWEPT: u32 = 1000;

/// Where entries go.
pub(super) struct Table {
    pub(super) store: Store,
    /// For what the table cannot take.
    pub(super) root: PathBuf,
}

impl Table {
    /// Stores lines; what is there already is passed over. What is no entry is set aside.
    pub(super) async fn store(&self, lines: impl Iterator<Item = &[u8]>) -> Result<(), ApiError> {
        let mut rows = Vec::new();
        for line in lines {
            match Line::read(line) {
                Ok(row) => rows.push(row),
                Err(error) => self.set_aside(line, &error)?,
            }
        }
        let mut todo = vec![rows.as_slice()];
        while let Some(rows) = todo.pop() {
            match self.insert(rows).await {
                // Those that the database finds no fault with must not wait for one that it does.
                Err(error) if is_fault_of_data(&error) => match rows {
                    [row] => self.set_aside(row.more.get().as_bytes(), &error)?,
                    rows => {
                        let (front, back) = rows.split_at(rows.len() / 2);
                        todo.extend([back, front]);
                    }
                },
                done => done?,
            }
        }
        Ok(())
    }

    async fn insert(&self, rows: &[Line<'_>]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut sql = String::with_capacity(128 + rows.len() * 48);
        sql.push_str(
            "INSERT INTO decision_log (id, created_at, action, resource, type, user_id, allowed, more) VALUES ",
        );
        for row in 0..rows.len() {
            let comma = if row == 0 { "" } else { ", " };
            let [id, at, action, resource, kind, user, allowed, more] =
                [1, 2, 3, 4, 5, 6, 7, 8].map(|column| row * 8 + column);
            // Writing to text cannot fail.
            write!(
                sql,
                "{comma}(${id}, ${at}, ${action}, ${resource}, ${kind}, ${user}, ${allowed} = 1, ${more})"
            )
            .ok();
        }
        sql.push_str(" ON CONFLICT (id) DO NOTHING");
        let mut statement = Statement::new(sql);
        for row in rows {
            statement = statement
                .bind(&*row.id)
                .bind(row.at)
                .bind(&*row.action)
                .bind(&*row.resource)
                .bind(&*row.r#type)
                .bind(row.user.as_deref().map(str::to_owned))
                .bind(i64::from(row.allowed))
                .bind(row.more.get());
        }
        self.store.execute(statement).await.map(|_| ())
    }

    /// Keeps what the table cannot take, for people.
    fn set_aside(&self, line: &[u8], error: &dyn Display) -> Result<(), ApiError> {
        tracing::error!(%error, "a recorded decision is damaged; it is kept in the data folder, in `decisions/damaged.jsonl`");
        metrics::counter!("edict_decision_log_damaged_total").increment(1);
        let path = self.root.join("damaged.jsonl");
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(&[line, b"\n"].concat())).map_err(unusable)
    }

    /// Removes entries that are older than `keep`, a few at a time: whoever waits to write gets in between.
    pub(super) async fn sweep(&self, keep: Duration) -> Result<(), ApiError> {
        let before = stamp::first_id(crate::now_micros() - crate::micros(keep)).to_string();
        let sql = format!(
            "DELETE FROM decision_log WHERE id IN (\
             SELECT id FROM decision_log WHERE id < $1 ORDER BY id LIMIT {SWEPT})"
        );
        loop {
            let started = Instant::now();
            let removed = self.store.execute(Statement::new(sql.as_str()).bind(before.as_str())).await?;
            if removed < u64::from(SWEPT) {
                return Ok(());
            }
            tokio::time::sleep(started.elapsed() * 4).await;
        }
    }
}

/// PostgreSQL's class 22, data exception: another try would end alike. SQLite takes any text.
fn is_fault_of_data(error: &StoreError) -> bool {
    let StoreError::Other(sqlx::Error::Database(cause)) = error else { return false };
    cause.code().is_some_and(|code| code.starts_with("22") && code.len() == 5)
}

/// The error for files that cannot be used.
pub(super) fn unusable(error: io::Error) -> ApiError {
    ApiError::internal(format_args!("the files of recorded decisions cannot be used: {error}"))
}
