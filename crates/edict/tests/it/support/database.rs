//! A database per test: SQLite in the test's own folder, or a database of its own in the PostgreSQL server that
//! `EDICT_TEST_POSTGRES_URL` names.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::sync::Arc;

/// Where a server under test keeps its records; clones share it, as servers side by side do.
#[derive(Clone)]
pub(crate) struct Database(Option<Arc<Postgres>>);

struct Postgres {
    admin: String,
    name: String,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self(None)
    }

    /// A new, empty database; None, with a line that says so, where no server is set up. With `CI` set that fails.
    pub(crate) fn postgres() -> Option<Self> {
        let Ok(admin) = std::env::var("EDICT_TEST_POSTGRES_URL") else {
            assert!(
                std::env::var_os("CI").is_none(),
                "EDICT_TEST_POSTGRES_URL is not set: use `cargo xtask test`"
            );
            eprintln!("skipped on PostgreSQL: EDICT_TEST_POSTGRES_URL is not set");
            return None;
        };
        Some(Self::postgres_at(admin))
    }

    /// A new, empty database in the PostgreSQL server with this URL of an administrator.
    pub(crate) fn postgres_at(admin: String) -> Self {
        let name = format!("edict_{}", uuid::Uuid::new_v4().simple());
        run(&admin, format!("CREATE DATABASE {name}"));
        Self(Some(Arc::new(Postgres { admin, name })))
    }

    /// Both kinds, as far as they are set up.
    pub(crate) fn each() -> Vec<Self> {
        std::iter::once(Self::sqlite()).chain(Self::postgres()).collect()
    }

    /// The URL for `database_url`; None for SQLite.
    pub(crate) fn url(&self) -> Option<String> {
        let postgres = self.0.as_ref()?;
        let (server, _) = postgres.admin.rsplit_once('/')?;
        Some(format!("{server}/{}", postgres.name))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        run(&self.admin, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn run(url: &str, sql: String) {
    let url = url.to_owned();
    let work = async move {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    };
    // A thread of its own: tests call this from inside their runtime, which cannot block on another.
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    })
    .join()
    .unwrap();
}
