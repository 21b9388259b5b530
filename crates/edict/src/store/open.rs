//! Opening a database and bringing its tables up to date.

use super::{Store, StoreError};
use crate::settings::Settings;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgPool};
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Longest time that one query may take.
pub(super) const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for a connection: callers of a server whose database is away learn it while they still listen.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// A connection that was used so lately is there.
const FRESH: Duration = Duration::from_secs(1);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the data folder `{path}` cannot be used: {source}")]
    DataDir { path: String, source: std::io::Error },
    #[error(
        "another server uses the data folder `{0}`: stop it, choose another `data_dir`, or set `database_url` to \
         PostgreSQL to run several side by side"
    )]
    Locked(String),
    #[error("`database_url` is not valid: {0}")]
    Url(String),
    #[error("the database cannot be opened: {0}")]
    Connect(#[from] StoreError),
    #[error("the database's tables cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl Store {
    /// Opens the database that the settings name. The file, if there is one, keeps the data folder locked until it is
    /// dropped.
    pub(crate) async fn open(settings: &Settings) -> Result<(Self, Option<File>), OpenError> {
        let dir = &settings.data_dir;
        std::fs::create_dir_all(dir)
            .map_err(|source| OpenError::DataDir { path: dir.display().to_string(), source })?;
        match settings.database_url.given() {
            Some(url) => Ok((Self::open_postgres(url, settings.database_connections).await?, None)),
            None => {
                let lock = lock(dir)?;
                Ok((
                    Self::open_sqlite(&dir.join("edict.db"), settings.database_connections).await?,
                    Some(lock),
                ))
            }
        }
    }

    /// Opens an embedded database of its own, for work that nobody else sees.
    pub(crate) async fn open_private(dir: &Path) -> Result<Self, OpenError> {
        Self::open_sqlite(&dir.join("edict.db"), 2).await
    }

    /// Says which database the settings name, without changing anything.
    pub(crate) async fn look(settings: &Settings) -> Result<String, OpenError> {
        let Some(url) = settings.database_url.given() else {
            let path = settings.data_dir.join("edict.db");
            let state = if path.exists() { "exists" } else { "will be made" };
            return Ok(format!("SQLite, {} {state}", path.display()));
        };
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(QUERY_LIMIT)
            .connect_with(PgConnectOptions::from_str(url).map_err(|error| OpenError::Url(error.to_string()))?)
            .await
            .map_err(StoreError::from)?;
        let (version,) = sqlx::query_as::<_, (String,)>("SHOW server_version")
            .fetch_one(&pool)
            .await
            .map_err(StoreError::from)?;
        Ok(format!("PostgreSQL {version}"))
    }

    async fn open_sqlite(path: &Path, connections: u32) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: a commit that was acknowledged survives a power cut, not only the end of the process.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(QUERY_LIMIT)
            .pragma("cache_size", "-8192")
            .with_regexp();
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // A file cannot hang up.
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await
            .map_err(StoreError::from)?;
        migrator(SQLITE).run(&writer).await?;
        // Each of them has a cache of its own, and after a while all have the same pages in it, which the operating
        // system keeps, too: a small one costs microseconds, a large one ten times its size.
        let options = options.read_only(true).create_if_missing(false).pragma("cache_size", "-1024");
        let readers = SqlitePoolOptions::new()
            .max_connections(connections.saturating_sub(1).max(1))
            .test_before_acquire(false)
            .connect_lazy_with(options);
        restrict(path);
        Ok(Self::Sqlite { writer, readers })
    }

    async fn open_postgres(url: &str, connections: u32) -> Result<Self, OpenError> {
        let milliseconds = QUERY_LIMIT.as_millis().to_string();
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| OpenError::Url(error.to_string()))?
            .application_name("edict")
            // Filters make long expressions, which PostgreSQL would take minutes to compile before it runs them.
            .options([("statement_timeout", milliseconds.as_str()), ("jit", "off")]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT_LIMIT)
            // Asking a connection whether it is there costs as much as using it: only those are asked that had time to
            // be lost.
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for < FRESH {
                        return Ok(true);
                    }
                    connection.ping().await.map(|()| true)
                })
            })
            .connect_with(options)
            .await
            .map_err(StoreError::from)?;
        let migrator = migrator(POSTGRES);
        if !is_current(&pool, &migrator).await {
            migrator.run(&pool).await?;
        }
        Ok(Self::Postgres(pool))
    }
}

/// Two servers on one SQLite file would each keep stale policies in memory, so the folder belongs to one.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let shown = || dir.display().to_string();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("edict.lock"))
        .map_err(|source| OpenError::DataDir { path: shown(), source })?;
    file.try_lock().map_err(|_| OpenError::Locked(shown()))?;
    Ok(file)
}

/// Records may hold settings that are secret: other users of the machine must not read the file.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
        tracing::warn!(%error, "cannot keep other users from reading the database file");
    }
}

/// Whether the tables are up to date already. Finding that out takes no more than the right to read, so that a server may
/// run as a role that cannot change its own tables.
async fn is_current(pool: &PgPool, migrator: &Migrator) -> bool {
    let sql = "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";
    let applied = sqlx::query_as::<_, (i64, Vec<u8>)>(sql).fetch_all(pool).await.unwrap_or_default();
    let wanted = migrator.iter().map(|migration| (migration.version, migration.checksum.as_ref()));
    wanted.eq(applied.iter().map(|(version, checksum)| (*version, checksum.as_slice())))
}

/// Number, name and text of each migration.
type Migrations = &'static [(i64, &'static str, &'static str)];

const SQLITE: Migrations = &[
    (1, "registry", include_str!("../../migrations/sqlite/0001_registry.sql")),
    (2, "jobs", include_str!("../../migrations/sqlite/0002_jobs.sql")),
    (3, "functions", include_str!("../../migrations/sqlite/0003_functions.sql")),
    (4, "graphs", include_str!("../../migrations/sqlite/0004_graphs.sql")),
    (5, "load", include_str!("../../migrations/sqlite/0005_load.sql")),
    (6, "decisions", include_str!("../../migrations/sqlite/0006_decisions.sql")),
    (7, "decision_log", include_str!("../../migrations/sqlite/0007_decision_log.sql")),
    (8, "audit", include_str!("../../migrations/sqlite/0008_audit.sql")),
    (9, "actions", include_str!("../../migrations/sqlite/0009_actions.sql")),
    (10, "pods", include_str!("../../migrations/sqlite/0010_pods.sql")),
    (11, "infra", include_str!("../../migrations/sqlite/0011_infra.sql")),
];
const POSTGRES: Migrations = &[
    (1, "registry", include_str!("../../migrations/postgres/0001_registry.sql")),
    (2, "jobs", include_str!("../../migrations/postgres/0002_jobs.sql")),
    (3, "functions", include_str!("../../migrations/postgres/0003_functions.sql")),
    (4, "graphs", include_str!("../../migrations/postgres/0004_graphs.sql")),
    (5, "load", include_str!("../../migrations/postgres/0005_load.sql")),
    (6, "decisions", include_str!("../../migrations/postgres/0006_decisions.sql")),
    (7, "decision_log", include_str!("../../migrations/postgres/0007_decision_log.sql")),
    (8, "audit", include_str!("../../migrations/postgres/0008_audit.sql")),
    (9, "actions", include_str!("../../migrations/postgres/0009_actions.sql")),
    (10, "pods", include_str!("../../migrations/postgres/0010_pods.sql")),
    (11, "infra", include_str!("../../migrations/postgres/0011_infra.sql")),
];

fn migrator(migrations: Migrations) -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        let text = sqlx::AssertSqlSafe(sql);
        Migration::new(
            version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            sqlx::SqlSafeStr::into_sql_str(text),
            false,
        )
    };
    Migrator::with_migrations(migrations.iter().map(migration).collect())
}
