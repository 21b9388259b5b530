//! The trail on real databases, below the routes that lead to it: who tampers has the owner's rights.

mod lifecycle;
mod tampering;

use super::{Attempt, Audit, End};
use crate::settings::{Settings, SettingsArgs};
use crate::store::{Statement, Store};
use edict_client::records::{AuditStatus, AuditVerdict};
use edict_filter::Dialect;
use serde_json::json;
use serde_json::value::to_raw_value;
use std::fs::File;
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// A database with an empty trail; gone with this value.
pub(super) struct Trail {
    pub(super) store: Store,
    pub(super) settings: Settings,
    pub(super) audit: Audit,
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
        let audit = Audit::new(store.clone(), &settings);
        audit.renew().await.unwrap();
        Self { store, settings, audit, _dir: dir, _lock: lock, postgres }
    }

    /// On both databases, as far as they are set up.
    pub(super) async fn each() -> Vec<Self> {
        let mut trails = vec![Self::new(None).await];
        match std::env::var("EDICT_TEST_POSTGRES_URL") {
            Ok(admin) => trails.push(Self::new(Some(admin)).await),
            Err(_) => assert!(std::env::var_os("CI").is_none(), "EDICT_TEST_POSTGRES_URL is not set"),
        }
        trails
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.store.dialect() == Dialect::Postgres
    }

    pub(super) async fn sql(&self, sql: impl Into<String>) -> u64 {
        self.store.execute(Statement::new(sql)).await.unwrap()
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        self.store.fetch_one::<(i64,)>(Statement::new(sql)).await.unwrap().unwrap().0
    }

    /// Takes the triggers away, as somebody with the owner's rights can.
    pub(super) async fn unguard(&self) {
        if self.is_postgres() {
            self.sql("ALTER TABLE audit_entries DISABLE TRIGGER ALL").await;
            self.sql("ALTER TABLE audit_head DISABLE TRIGGER ALL").await;
            return;
        }
        for name in [
            "audit_entries_only_added",
            "audit_entries_kept",
            "audit_entries_not_replaced",
            "audit_head_kept",
            "audit_head_one",
            "audit_head_moves_on",
        ] {
            self.sql(format!("DROP TRIGGER {name}")).await;
        }
    }

    pub(super) async fn verdict(&self) -> AuditVerdict {
        self.audit.verify(None).await.unwrap()
    }

    /// A completed action on this pod.
    pub(super) async fn complete(&self, pod: &str) -> Uuid {
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

pub(super) fn secret(text: &str) -> crate::settings::Secret {
    serde_json::from_value(json!(text)).unwrap()
}

pub(super) fn attempt(pod: &str) -> Attempt {
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

pub(super) fn end(status: AuditStatus) -> End {
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
