//! The same documents in SQLite and, if there is a server, in PostgreSQL.

use std::str::FromStr;

use edict_filter::{Arg, Column, Dialect, Filter, Kind, Sort, Sql, Table};
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};

/// Every document of a test has these two fields, and the tables have them as columns.
pub(crate) const TABLE: Table<'static> = Table {
    doc: "d.doc",
    columns: &[
        Column { path: "name", sql: "d.name", kind: Kind::Text },
        Column { path: "count", sql: "d.count", kind: Kind::Integer },
    ],
};

pub(crate) struct Databases {
    pub(crate) sqlite: SqliteConnection,
    pub(crate) postgres: Option<PgConnection>,
}

impl Databases {
    pub(crate) async fn open() -> Self {
        let mut sqlite =
            SqliteConnectOptions::from_str("sqlite::memory:").unwrap().with_regexp().connect().await.unwrap();
        let create = "CREATE TABLE docs (id INTEGER PRIMARY KEY, doc TEXT NOT NULL, name TEXT NOT NULL, \
                      count INTEGER NOT NULL)";
        sqlx::query(create).execute(&mut sqlite).await.unwrap();
        Self { sqlite, postgres: open_postgres().await }
    }

    /// Replaces the documents; their ids are their positions.
    pub(crate) async fn load(&mut self, docs: &[Value]) {
        sqlx::query("DELETE FROM docs").execute(&mut self.sqlite).await.unwrap();
        if let Some(postgres) = &mut self.postgres {
            sqlx::query("DELETE FROM docs").execute(postgres).await.unwrap();
        }
        for (id, doc) in (0i64..).zip(docs) {
            let (name, count) = (doc["name"].as_str().unwrap(), doc["count"].as_i64().unwrap());
            sqlx::query("INSERT INTO docs VALUES ($1, $2, $3, $4)")
                .bind(id)
                .bind(doc.to_string())
                .bind(name)
                .bind(count)
                .execute(&mut self.sqlite)
                .await
                .unwrap();
            if let Some(postgres) = &mut self.postgres {
                sqlx::query("INSERT INTO docs VALUES ($1, $2::jsonb, $3, $4)")
                    .bind(id)
                    .bind(doc.to_string())
                    .bind(name)
                    .bind(count)
                    .execute(postgres)
                    .await
                    .unwrap();
            }
        }
    }

    /// Asserts that both databases find what `matches` finds.
    pub(crate) async fn assert_agree(&mut self, filter: &Value, docs: &[Value]) {
        let parsed = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        let matching = (0i64..).zip(docs).filter(|(_, doc)| parsed.matches(doc));
        let expected: Vec<i64> = matching.map(|(id, _)| id).collect();
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            let sql = parsed.to_sql(dialect, &TABLE, 2).unwrap();
            let Some(found) = self.ids(dialect, &sql, "d.id").await else { continue };
            let docs: Vec<_> = docs.iter().map(Value::to_string).collect();
            assert_eq!(found, expected, "{dialect:?}: {filter}\non {}\nas {sql:?}", docs.join("\n   "));
        }
    }

    pub(crate) async fn sorted(&mut self, dialect: Dialect, sort: &str) -> Option<Vec<i64>> {
        let order = Sort::parse(sort).unwrap().to_sql(dialect, &TABLE, "d.id", 2).unwrap();
        let everything = Sql { text: "(1 = 1)".to_owned(), args: order.args };
        self.ids(dialect, &everything, &order.text).await
    }

    /// The ids of the rows a condition whose placeholders start at 2 selects; `None` without the database.
    async fn ids(&mut self, dialect: Dialect, sql: &Sql, order: &str) -> Option<Vec<i64>> {
        let text = format!("SELECT d.id FROM docs d WHERE d.id >= $1 AND {} ORDER BY {order}", sql.text);
        let fail = |error: sqlx::Error| panic!("{dialect:?}: {error}\n{text}\n{:?}", sql.args);
        match dialect {
            Dialect::Sqlite => {
                let mut query = sqlx::query_scalar(AssertSqlSafe(text.clone())).bind(0i64);
                for arg in &sql.args {
                    query = match arg {
                        Arg::Text(text) => query.bind(text.clone()),
                        Arg::Integer(integer) => query.bind(*integer),
                    };
                }
                Some(query.fetch_all(&mut self.sqlite).await.unwrap_or_else(fail))
            }
            Dialect::Postgres => {
                let mut query = sqlx::query_scalar(AssertSqlSafe(text.clone())).bind(0i64);
                for arg in &sql.args {
                    query = match arg {
                        Arg::Text(text) => query.bind(text.clone()),
                        Arg::Integer(integer) => query.bind(*integer),
                    };
                }
                Some(query.fetch_all(self.postgres.as_mut()?).await.unwrap_or_else(fail))
            }
        }
    }
}

async fn open_postgres() -> Option<PgConnection> {
    let Ok(url) = std::env::var("EDICT_TEST_POSTGRES_URL") else {
        assert!(std::env::var_os("CI").is_none(), "EDICT_TEST_POSTGRES_URL must be set in CI");
        println!("skipped the PostgreSQL half of a test: EDICT_TEST_POSTGRES_URL is not set");
        return None;
    };
    let mut postgres = PgConnection::connect_with(&PgConnectOptions::from_str(&url).unwrap()).await.unwrap();
    // A temporary table belongs to the connection alone and goes with it.
    let create = "CREATE TEMPORARY TABLE docs (id bigint PRIMARY KEY, doc jsonb NOT NULL, \
                  name text COLLATE \"C\" NOT NULL, count bigint NOT NULL)";
    sqlx::query(create).execute(&mut postgres).await.unwrap();
    sqlx::query("CREATE INDEX ON docs USING gin (doc jsonb_path_ops)").execute(&mut postgres).await.unwrap();
    // With few rows the planner would never use the index, whose conditions are to be tested.
    sqlx::query("SET enable_seqscan = off").execute(&mut postgres).await.unwrap();
    // Forbidding sequential scans makes every plan look expensive enough to be compiled, which takes seconds.
    sqlx::query("SET jit = off").execute(&mut postgres).await.unwrap();
    Some(postgres)
}

/// Runs an asynchronous test.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
