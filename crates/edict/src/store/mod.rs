//! The narrow boundary to the databases: statements go in, rows come out, on SQLite and PostgreSQL alike.
//!
//! SQL is written once, with `$1` placeholders, which both databases take. The few places where they differ ask the
//! store (`Store::dialect`). Queries live beside the records they serve; records as JSON documents share
//! [`documents`].

pub(crate) mod documents;
pub(crate) mod kept;
mod limit;
mod open;
mod statement;

pub(crate) use open::OpenError;
pub(crate) use statement::{Arg, Row, Statement};

use edict_filter::Dialect;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};

/// The database.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// Embedded. One connection writes, since SQLite has one writer at a time anyway and waiting for a lock inside it
    /// would end in errors instead of a queue; the others read at the same time (WAL).
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A unique constraint: there is such a row already.
    #[error("a row with this key exists")]
    Exists,
    /// The query ran longer than is allowed.
    #[error("the query took too long")]
    Timeout,
    /// The database cannot be reached or is shutting down.
    #[error("the database cannot be reached: {0}")]
    Unavailable(sqlx::Error),
    #[error(transparent)]
    Other(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(cause) if cause.is_unique_violation() => Self::Exists,
            // PostgreSQL: query_canceled, by `statement_timeout`. SQLite: interrupted, by the progress handler.
            sqlx::Error::Database(cause) if matches!(cause.code().as_deref(), Some("57014" | "9")) => {
                Self::Timeout
            }
            // PostgreSQL classes 08 (connection), 57P (shutdown), 53 (out of resources).
            sqlx::Error::Database(cause)
                if cause.code().is_some_and(|code| {
                    code.starts_with("08") || code.starts_with("57P") || code.starts_with("53")
                }) =>
            {
                Self::Unavailable(error)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_) => Self::Unavailable(error),
            _ => Self::Other(error),
        }
    }
}

impl From<StoreError> for crate::error::ApiError {
    fn from(error: StoreError) -> Self {
        use crate::error::{ApiError, Code};
        match error {
            StoreError::Timeout => ApiError::new(
                Code::QueryTimeout,
                "the query took too long and was stopped; filter by an indexed field first, or ask for fewer records",
            ),
            StoreError::Unavailable(cause) => {
                tracing::error!(%cause, "database unavailable");
                ApiError::new(
                    Code::StorageUnavailable,
                    "the database cannot be reached; nothing was changed, try again",
                )
                .retry_after(std::time::Duration::from_secs(1))
            }
            // PostgreSQL: character_not_in_repertoire and untranslatable_character, for what nobody looked at before.
            StoreError::Other(sqlx::Error::Database(cause))
                if matches!(cause.code().as_deref(), Some("22021" | "22P05")) =>
            {
                ApiError::new(
                    Code::InvalidField,
                    "a text of the request holds a NUL character, which the database cannot store; remove it",
                )
            }
            other => ApiError::internal(other),
        }
    }
}

impl Store {
    /// Which SQL the database speaks.
    pub(crate) const fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite { .. } => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The same database over a connection of its own, on which PostgreSQL looks up each row that is to be changed in an
    /// index. Left to itself it takes a list of a few rows for a hundred, and the plan that was right when a table was
    /// empty for right later: then it reads all of the table, or of its index, for each change.
    pub(crate) fn by_index(&self) -> Self {
        match self {
            Self::Sqlite { .. } => self.clone(),
            Self::Postgres(pool) => {
                let options = (*pool.connect_options()).clone().options([
                    ("enable_seqscan", "off"),
                    ("enable_mergejoin", "off"),
                    ("enable_hashjoin", "off"),
                ]);
                let timeout = pool.options().get_acquire_timeout();
                let own = PgPoolOptions::new().max_connections(1).acquire_timeout(timeout);
                Self::Postgres(own.connect_lazy_with(options))
            }
        }
    }

    /// Reads rows.
    pub(crate) async fn fetch<R: Row>(&self, statement: Statement) -> Result<Vec<R>, StoreError> {
        match self {
            Self::Sqlite { readers, .. } => statement.fetch_sqlite(readers).await,
            Self::Postgres(pool) => statement.fetch_postgres(pool).await,
        }
    }

    /// Reads one row, if there is one.
    pub(crate) async fn fetch_one<R: Row>(&self, statement: Statement) -> Result<Option<R>, StoreError> {
        Ok(self.fetch(statement).await?.into_iter().next())
    }

    /// Reads rows for a query that a caller composed, which may ask for a scan of minutes: it is stopped in time.
    pub(crate) async fn search<R: Row>(&self, statement: Statement) -> Result<Vec<R>, StoreError> {
        match self {
            Self::Sqlite { readers, .. } => {
                let mut connection = readers.acquire().await?;
                let _limit = limit::Deadline::set(&mut connection, open::QUERY_LIMIT).await?;
                statement.fetch_sqlite(&mut *connection).await
            }
            // PostgreSQL has `statement_timeout`.
            Self::Postgres(pool) => statement.fetch_postgres(pool).await,
        }
    }

    /// Writes, and tells how many rows were touched.
    pub(crate) async fn execute(&self, statement: Statement) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite { writer, .. } => statement.execute_sqlite(writer).await,
            Self::Postgres(pool) => statement.execute_postgres(pool).await,
        }
    }

    /// Runs statements that write, separated by `;`, as one transaction: on SQLite all in one go, where each statement
    /// of its own would wake the connection's thread and this one in turn. Returns the rows of those that return some.
    pub(crate) async fn at_once<R: Row>(&self, statement: Statement) -> Result<Vec<R>, StoreError> {
        match self {
            Self::Sqlite { writer, .. } => {
                let mut connection = writer.acquire().await?;
                let done = statement.in_transaction().fetch_sqlite(&mut *connection).await;
                if done.is_err() {
                    // It may have failed before it began one.
                    Statement::new("ROLLBACK").execute_sqlite(&mut *connection).await.ok();
                }
                done
            }
            // One statement is a transaction, and PostgreSQL prepares no more than one.
            Self::Postgres(pool) => statement.fetch_postgres(pool).await,
        }
    }

    /// Starts a transaction that may write. Dropping it undoes it.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.fetch::<(i64,)>(Statement::new("SELECT CAST(1 AS bigint)")).await.map(|_| ())
    }

    /// Finishes what runs and closes every connection.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A transaction.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    /// Reads rows as this transaction sees them.
    pub(crate) async fn fetch<R: Row>(&mut self, statement: Statement) -> Result<Vec<R>, StoreError> {
        match self {
            Self::Sqlite(tx) => statement.fetch_sqlite(&mut **tx).await,
            Self::Postgres(tx) => statement.fetch_postgres(&mut **tx).await,
        }
    }

    /// Writes, and tells how many rows were touched.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(tx) => statement.execute_sqlite(&mut **tx).await,
            Self::Postgres(tx) => statement.execute_postgres(&mut **tx).await,
        }
    }

    /// Waits until no other transaction holds the lock `name`, and holds it until this one ends. SQLite has one writer
    /// anyway.
    pub(crate) async fn lock(&mut self, name: &str) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0)) IS NULL";
            self.fetch::<(bool,)>(Statement::new(sql).bind(name)).await?;
        }
        Ok(())
    }

    /// Makes it last: when this returns, a crash loses nothing of it.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
