//! The audit trail when things go wrong, or somebody wants them to: tampering, a role without rights, a webhook that is
//! down, servers that are killed.

use crate::audit::Trail;
use crate::support::{Database, TestApp, free_port, http, reply, wait_for};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

impl TestApp {
    /// Runs statements with the rights of the database's owner.
    async fn meddle(&self, database: &Database, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match database.url() {
            Some(url) => sql.execute(&mut PgConnection::connect(&url).await.unwrap()).await.map(|_| ()),
            None => {
                let file = format!("sqlite://{}/edict.db", self.data_dir().display());
                sql.execute(&mut SqliteConnection::connect(&file).await.unwrap()).await.map(|_| ())
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_changed_is_named() {
    for database in Database::each() {
        let app = TestApp::builder().database(database.clone()).start();
        let trail = Trail(&app);
        let id = trail.refused("pod-1", "ai-engine").await;
        trail.refused("pod-2", "ai-engine").await;
        let change = "UPDATE audit_entries SET requested_by = 'nobody' WHERE seq = 1";
        app.meddle(&database, change).await.unwrap_err();
        assert_eq!(trail.data("/audit/verify").await["intact"], json!(true));
        let unguard = match database.url() {
            Some(_) => "ALTER TABLE audit_entries DISABLE TRIGGER ALL",
            None => "DROP TRIGGER audit_entries_only_added",
        };
        app.meddle(&database, unguard).await.unwrap();
        app.meddle(&database, change).await.unwrap();
        let verdict = trail.data("/audit/verify").await;
        assert_eq!(verdict["intact"], json!(false));
        let fault = json!({
            "seq": 1,
            "actionId": id,
            "message": "was changed: its hash does not belong to its content"
        });
        assert_eq!(verdict["faults"], json!([fault]));
        // Who asks for the list still gets it, and the trail goes on.
        trail.refused("pod-3", "ai-engine").await;
        assert_eq!(trail.data("/audit/logs").await.as_array().unwrap().len(), 3);
        assert_eq!(trail.data("/audit/verify").await["faults"], json!([fault]));
    }
}

/// The split of roles that docs/operations.md describes: the server reads and appends, and can do nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_owners_rights_works_and_cannot_tamper() {
    let Some(database) = Database::postgres() else { return };
    let owner = TestApp::builder().database(database.clone()).start();
    Trail(&owner).refused("pod-1", "ai-engine").await;
    let page = include_str!("../../../../docs/operations.md");
    let role = format!("edict_{}", uuid::Uuid::new_v4().simple());
    let grants = page.split("```sql").find(|block| block.contains("CREATE ROLE edict_server")).unwrap();
    let grants = grants.split("```").next().unwrap().replace("edict_server", &role);
    owner.meddle(&database, &grants).await.unwrap();
    drop(owner);

    let url = database.url().unwrap().replace("postgres@", &format!("{role}@"));
    let app = TestApp::builder().setting("database_url", &url).setting("audit_retention_days", 1).start();
    let trail = Trail(&app);
    trail.refused("pod-2", "ai-engine").await;
    assert_eq!(trail.data("/audit/verify").await["entries"], json!(4));
    assert_eq!(trail.data("/audit/statistics").await["total"], json!(2));
    let mut server = PgConnection::connect(&url).await.unwrap();
    for sql in [
        "UPDATE audit_entries SET requested_by = 'nobody'",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
        "INSERT INTO audit_entries SELECT * FROM audit_entries LIMIT 1",
        "UPDATE audit_head SET seq = 0",
        "DELETE FROM audit_unfinished",
        "ALTER TABLE audit_entries DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_entries_kept ON audit_entries",
        "DROP TABLE audit_entries",
        "CREATE TABLE evil (a int)",
        "CREATE OR REPLACE FUNCTION edict_audit_trimmed() RETURNS bigint LANGUAGE sql AS 'SELECT 99'",
    ] {
        let refused = sqlx::raw_sql(sql).execute(&mut server).await.unwrap_err();
        let code =
            refused.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{sql}: {refused}");
    }
    // A table of its own in front of the real one changes nothing: the functions know which one is meant.
    let shadow = "CREATE TEMP TABLE audit_head (one boolean, seq bigint, hash text); \
                  SELECT edict_audit_append('{}', 'x', 'begin', NULL, NULL, NULL, NULL, 0, 0, '')";
    sqlx::raw_sql(shadow).execute(&mut server).await.unwrap();
    assert_eq!(trail.data("/audit/verify").await["intact"], json!(true));
    server.close().await.unwrap();
    drop(app);
    let again = TestApp::builder().database(database.clone()).start();
    let undo = format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}");
    again.meddle(&database, &undo).await.unwrap();
}

type Told = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

async fn receive(State(told): State<Told>, headers: HeaderMap, body: Bytes) {
    told.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
}

/// A receiver at this port.
async fn listen(port: u16, told: &Told) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let router = Router::new().fallback(receive).with_state(Arc::clone(told));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_had_still_to_tell_is_told_by_the_next_one() {
    for database in Database::each() {
        let port = free_port();
        let mut app = TestApp::builder()
            .database(database)
            .setting("notify_url", format!("http://127.0.0.1:{port}/hook?key=sesame-street"))
            .start();
        let mut asked = BTreeSet::new();
        for number in 0..5 {
            asked.insert(Trail(&app).refused(&format!("pod-{number}"), "ai-engine").await);
        }
        wait_for(|| app.log().contains("not notified yet").then_some(())).unwrap();
        assert!(!app.log().contains("sesame"), "the URL is in the log");
        app.kill();
        app.restart();
        let told = Told::default();
        listen(port, &told).await;
        let all = wait_for(|| {
            let ids: BTreeSet<String> = told
                .lock()
                .unwrap()
                .iter()
                .map(|(_, body)| body["action"]["id"].as_str().unwrap().to_owned())
                .collect();
            (ids == asked).then_some(())
        });
        assert!(all.is_some(), "{:?}", told.lock().unwrap());
        for (headers, body) in told.lock().unwrap().iter() {
            assert_eq!(body["event"], "action.rejected");
            assert_eq!(headers["x-edict-delivery"], body["id"].as_str().unwrap());
            assert!(!headers.contains_key("x-edict-signature"), "there is no secret to sign with");
        }
        wait_for(|| {
            let left = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(app.sql("SELECT count(*) FROM notifications"))
            });
            (left == 0).then_some(())
        })
        .expect("what was told is not removed");
        let metrics = reply(http().get(format!("{}/metrics", app.listener("actions")))).await.bytes;
        let metrics = String::from_utf8(metrics).unwrap();
        assert!(metrics.contains("edict_notifications_total{result=\"delivered\"}"), "{metrics}");
    }
}
