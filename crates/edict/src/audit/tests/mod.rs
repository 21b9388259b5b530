//! The trail on real databases, below the routes that lead to it: who tampers has the owner's rights.

mod figures;
mod lifecycle;
mod retention;
mod tampering;

use super::{Attempt, Audit, End, chain, entries};
use crate::settings::{Settings, SettingsArgs};
use crate::store::{Statement, Store};
use edict_client::records::{AuditEntry, AuditStatus, AuditVerdict};
use edict_filter::Dialect;
use serde_json::json;
use serde_json::value::to_raw_value;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// A database with an empty trail; gone with this value.
pub(crate) struct Trail {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) audit: Arc<Audit>,
    _dir: TempDir,
    _lock: Option<File>,
    postgres: Option<(String, String)>,
}

impl Trail {
    async fn new(admin: Option<String>) -> Self {
        let dir = TempDir::new().unwrap();
        let mut settings = SettingsArgs::default().load().unwrap().settings;
        settings.data_dir = dir.path().to_owned();
        settings.notify_url = secret("");
        let postgres = admin.map(|admin| {
            let name = format!("edict_{}", Uuid::new_v4().simple());
            run(&admin, format!("CREATE DATABASE {name}"));
            (admin, name)
        });
        let url =
            postgres.as_ref().map(|(admin, name)| format!("{}/{name}", admin.rsplit_once('/').unwrap().0));
        settings.database_url = secret(&url.unwrap_or_default());
        let (store, lock) = Store::open(&settings).await.unwrap();
        let audit = Arc::new(Audit::new(store.clone(), &settings));
        audit.renew().await.unwrap();
        Self { store, settings, audit, _dir: dir, _lock: lock, postgres }
    }

    /// On both databases, as far as they are set up.
    pub(crate) async fn each() -> Vec<Self> {
        let mut trails = vec![Self::new(None).await];
        match std::env::var("EDICT_TEST_POSTGRES_URL") {
            Ok(admin) => trails.push(Self::new(Some(admin)).await),
            Err(_) => assert!(std::env::var_os("CI").is_none(), "EDICT_TEST_POSTGRES_URL is not set"),
        }
        trails
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.store.dialect() == Dialect::Postgres
    }

    pub(crate) async fn sql(&self, sql: impl Into<String>) -> u64 {
        self.store.execute(Statement::new(sql)).await.unwrap()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.store.fetch_one::<(i64,)>(Statement::new(sql)).await.unwrap().unwrap().0
    }

    /// Takes the triggers away, as somebody with the owner's rights can. Returns what brings them back.
    pub(crate) async fn unguard(&self) -> Vec<String> {
        if self.is_postgres() {
            for table in ["audit_entries", "audit_head"] {
                self.sql(format!("ALTER TABLE {table} DISABLE TRIGGER ALL")).await;
            }
            return ["audit_entries", "audit_head"]
                .map(|table| format!("ALTER TABLE {table} ENABLE TRIGGER ALL"))
                .to_vec();
        }
        let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit_%'";
        let triggers = self.store.fetch::<(String, String)>(Statement::new(sql)).await.unwrap();
        assert_eq!(triggers.len(), 6);
        for (name, _) in &triggers {
            self.sql(format!("DROP TRIGGER {name}")).await;
        }
        triggers.into_iter().map(|(_, sql)| sql).collect()
    }

    /// Changes entries as nobody may, and makes the chain whole again, so that it does not show.
    pub(crate) async fn rewrite(&self, change: impl Fn(&mut AuditEntry)) {
        let guards = self.unguard().await;
        let mut prev_hash = None;
        for mut entry in entries::batch(&self.store, 0).await.unwrap() {
            change(&mut entry);
            entry.prev_hash = prev_hash.unwrap_or(entry.prev_hash);
            entry.hash = chain::hash(&entry);
            let AuditEntry { seq, at, prev_hash: before, hash, .. } = &entry;
            let set = format!("at = {at}, prev_hash = '{before}', hash = '{hash}'");
            self.sql(format!("UPDATE audit_entries SET {set} WHERE seq = {seq}")).await;
            self.sql(format!("UPDATE audit_head SET seq = {seq}, hash = '{hash}'")).await;
            prev_hash = Some(entry.hash);
        }
        for sql in guards {
            self.sql(sql).await;
        }
        assert!(self.verdict().await.intact);
    }

    /// Makes every entry older.
    pub(crate) async fn age(&self, days: i64) {
        self.rewrite(|entry| entry.at -= days * 86_400_000_000).await;
    }

    pub(crate) async fn verdict(&self) -> AuditVerdict {
        self.audit.verify(None).await.unwrap()
    }

    /// A server whose settings are these.
    pub(crate) fn server(&self, change: impl FnOnce(&mut Settings)) -> Arc<Audit> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        Arc::new(Audit::new(self.store.clone(), &settings))
    }

    /// A completed action on this pod.
    pub(crate) async fn complete(&self, pod: &str) -> Uuid {
        let id = self.audit.open(&attempt(pod)).await.unwrap();
        self.audit.begin(id, "restart", None, &json!({"uid": "1"})).await.unwrap().unwrap();
        assert!(self.audit.close(id, end(AuditStatus::Completed)).await.unwrap());
        id
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let Some((admin, name)) = self.postgres.take() {
            run(&admin, format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// What an administrator does, on a thread of its own: tests call this from inside their runtime.
fn run(url: &str, sql: String) {
    use sqlx::Connection;
    let url = url.to_owned();
    let work = async move {
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    };
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    })
    .join()
    .unwrap();
}

pub(crate) fn secret(text: &str) -> crate::settings::Secret {
    serde_json::from_value(json!(text)).unwrap()
}

pub(crate) fn attempt(pod: &str) -> Attempt {
    Attempt {
        action_type: "restart_pod".to_owned(),
        namespace: Some("default".to_owned()),
        resource_type: Some("pod".to_owned()),
        resource_name: Some(pod.to_owned()),
        action_params: to_raw_value(&json!({"namespace": "default", "podName": pod})).unwrap(),
        requested_by: Some("ai-engine".to_owned()),
        policy_decision: Some(to_raw_value(&json!({"allowed": true})).unwrap()),
        signature: Some("ab".repeat(32)),
        ip_address: Some("127.0.0.1".parse().unwrap()),
        dry_run: false,
    }
}

pub(crate) fn end(status: AuditStatus) -> End {
    let error =
        (status != AuditStatus::Completed).then(|| ("action_failed".to_owned(), "it broke".to_owned()));
    let result = (status == AuditStatus::Completed).then(|| json!({"pod": "new"}));
    End {
        status,
        error,
        result,
        decision: Some(json!({"allowed": true})),
        execution: Duration::from_millis(12),
    }
}
