//! One SQL statement with its arguments.

use super::StoreError;
use bytes::Bytes;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Executor, FromRow, Postgres, Sqlite};

/// What a row becomes: a tuple or a struct that both databases can fill.
pub(crate) trait Row:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}
impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> Row for T {}

/// A value for a placeholder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Arg {
    Text(String),
    OptionalText(Option<String>),
    OptionalInt(Option<i64>),
    Int(i64),
    Blob(Bytes),
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<String>> for Arg {
    fn from(text: Option<String>) -> Self {
        Self::OptionalText(text)
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Option<i64>> for Arg {
    fn from(number: Option<i64>) -> Self {
        Self::OptionalInt(number)
    }
}

impl From<Bytes> for Arg {
    fn from(bytes: Bytes) -> Self {
        Self::Blob(bytes)
    }
}

/// SQL text with `$1`, `$2`, … and what stands in their places.
///
/// INVARIANT (sql-text): the text is made of literals in this program, of column names from a collection's table and
/// of what `edict-filter` composes; whatever a caller sends is an argument.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    text: String,
    args: Vec<Arg>,
}

macro_rules! run_on {
    ($fetch:ident, $execute:ident, $database:ty, $arguments:ty) => {
        pub(super) async fn $fetch<'e, R: Row>(
            self,
            on: impl Executor<'e, Database = $database>,
        ) -> Result<Vec<R>, StoreError> {
            let mut arguments = <$arguments>::default();
            for arg in self.args {
                add(&mut arguments, arg)?;
            }
            let rows = sqlx::query_with(AssertSqlSafe(self.text), arguments).fetch_all(on).await?;
            Ok(rows.iter().map(R::from_row).collect::<Result<_, _>>()?)
        }

        pub(super) async fn $execute<'e>(
            self,
            on: impl Executor<'e, Database = $database>,
        ) -> Result<u64, StoreError> {
            let mut arguments = <$arguments>::default();
            for arg in self.args {
                add(&mut arguments, arg)?;
            }
            Ok(sqlx::query_with(AssertSqlSafe(self.text), arguments).execute(on).await?.rows_affected())
        }
    };
}

impl Statement {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), args: Vec::new() }
    }

    /// The value of the next placeholder.
    pub(crate) fn bind(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Values of the next placeholders.
    pub(crate) fn bind_all(mut self, args: impl IntoIterator<Item = Arg>) -> Self {
        self.args.extend(args);
        self
    }

    /// The same as a transaction, for SQLite.
    pub(super) fn in_transaction(self) -> Self {
        Self { text: format!("BEGIN IMMEDIATE; {}; COMMIT", self.text), args: self.args }
    }

    run_on!(fetch_sqlite, execute_sqlite, Sqlite, SqliteArguments);
    run_on!(fetch_postgres, execute_postgres, Postgres, PgArguments);
}

fn add<'q, A>(arguments: &mut A, arg: Arg) -> Result<(), StoreError>
where
    A: Arguments,
    String: sqlx::Encode<'q, A::Database> + sqlx::Type<A::Database>,
    Option<String>: sqlx::Encode<'q, A::Database> + sqlx::Type<A::Database>,
    Option<i64>: sqlx::Encode<'q, A::Database> + sqlx::Type<A::Database>,
    i64: sqlx::Encode<'q, A::Database> + sqlx::Type<A::Database>,
    Vec<u8>: sqlx::Encode<'q, A::Database> + sqlx::Type<A::Database>,
{
    let added = match arg {
        Arg::Text(text) => arguments.add(text),
        Arg::OptionalText(text) => arguments.add(text),
        Arg::OptionalInt(number) => arguments.add(number),
        Arg::Int(number) => arguments.add(number),
        Arg::Blob(bytes) => arguments.add(Vec::from(bytes)),
    };
    added.map_err(|error| StoreError::Other(sqlx::Error::Encode(error)))
}
