//! What was acknowledged is there after a crash, and nothing is half-done.

use crate::support::{Database, PATIENCE, Postgres, TestApp, http, policy, policy_source, reply};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What a writer has been told is done.
#[derive(Default)]
struct Acknowledged {
    created: u64,
    updated: u64,
    increased: u64,
}

/// Writes one thing after the other until it is told to stop, and counts what was acknowledged; a request without an
/// answer may have happened or not.
struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Acknowledged>,
}

const WRITERS: u64 = 4;

fn start_writers(app: &TestApp) -> Vec<Writer> {
    (0..WRITERS)
        .map(|id| {
            let stop = Arc::new(AtomicBool::new(false));
            let task = tokio::spawn(write(app.url(), id, Arc::clone(&stop)));
            Writer { stop, task }
        })
        .collect()
}

async fn send(method: &str, url: String, body: Value) -> Option<u16> {
    let request = http().request(method.parse().unwrap(), url).json(&body).timeout(Duration::from_secs(20));
    Some(request.send().await.ok()?.status().as_u16())
}

async fn write(url: String, id: u64, stop: Arc<AtomicBool>) -> Acknowledged {
    let mut done = Acknowledged::default();
    let source = policy_source("return 1");
    while !stop.load(Ordering::SeqCst) {
        let name = format!("w{id}-{}", done.created);
        let create = send("POST", format!("{url}/policy"), policy(&name, &source));
        match create.await {
            // 409: an earlier try without an answer did happen.
            Some(200 | 409) => done.created += 1,
            _ => continue,
        }
        let update = json!({"$inc": {"metadata.count": 1}, "$push": {"metadata.log": done.updated}});
        if send("PUT", format!("{url}/policy/shared{id}:1.0-test"), update).await == Some(200) {
            done.updated += 1;
        }
        let incr = json!({"op": "incr", "key": format!("w{id}")});
        if send("POST", format!("{url}/policy/shared{id}:1.0-test/context"), incr).await == Some(200) {
            done.increased += 1;
        }
    }
    done
}

async fn prepare(app: &TestApp) {
    for id in 0..WRITERS {
        app.register(&policy(&format!("shared{id}"), &policy_source("return 1"))).await;
    }
}

/// Waits until every writer has got somewhere.
async fn wait_until_busy(app: &TestApp, at_least: usize) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, found) = app
            .json("POST", "/policy/query?fields=name&limit=10000", &json!({"name": {"$regex": "^w"}}))
            .await;
        if found["data"].as_array().is_some_and(|list| list.len() >= at_least) {
            return;
        }
        assert!(Instant::now() < end, "the writers do not get on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn assert_nothing_lost(app: &TestApp, writers: Vec<Writer>) {
    for (id, writer) in writers.into_iter().enumerate() {
        writer.stop.store(true, Ordering::SeqCst);
        let done = writer.task.await.unwrap();
        assert!(done.created > 0 && done.updated > 0 && done.increased > 0, "the test wrote nothing");
        for n in 0..done.created {
            let (status, record) = app.get(&format!("/policy/w{id}-{n}:1.0-test")).await;
            assert_eq!((status, &record["data"]["revision"]), (200, &json!(1)), "w{id}-{n}: {record}");
            assert!(record["data"]["code_digest"].is_string());
        }
        let last = format!("w{id}-{}:1.0-test", done.created - 1);
        assert_eq!(app.run(&last, json!({})).await.1["data"], 1, "the code is there with the record");
        let shared = app.get(&format!("/policy/shared{id}:1.0-test")).await.1["data"].clone();
        let count = shared["metadata"]["count"].as_u64().unwrap();
        assert!(count >= done.updated, "{count} updates of {} are there", done.updated);
        let log = shared["metadata"]["log"].as_array().unwrap().len() as u64;
        assert_eq!(
            (log, shared["revision"].as_u64().unwrap()),
            (count, count + 1),
            "no update was half-done"
        );
        let get = json!({"op": "get", "key": format!("w{id}")});
        let (_, value) = app.json("POST", &format!("/policy/shared{id}:1.0-test/context"), &get).await;
        assert!(value["data"]["value"].as_u64().unwrap() >= done.increased, "{value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_lost_nothing() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        prepare(&app).await;
        let writers = start_writers(&app);
        wait_until_busy(&app, 30).await;
        app.kill();
        writers.iter().for_each(|writer| writer.stop.store(true, Ordering::SeqCst));
        tokio::task::block_in_place(|| app.restart());
        assert_nothing_lost(&app, writers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_has_lost_nothing_and_the_server_recovers() {
    let Some(postgres) = tokio::task::block_in_place(Postgres::start) else { return };
    {
        let app = TestApp::builder().database(Database::postgres_at(postgres.url())).start();
        prepare(&app).await;
        let writers = start_writers(&app);
        wait_until_busy(&app, 30).await;
        tokio::task::block_in_place(|| postgres.kill());
        let refused = reply(app.request("GET", "/policy/shared0:1.0-test")).await;
        assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &json!("storage_unavailable")));
        assert!(!refused.header("retry-after").is_empty());
        assert_eq!(app.get("/readyz").await.0, 503, "nothing is sent here meanwhile");
        assert_eq!(app.get("/healthz").await.0, 200, "but the process is well");
        tokio::task::block_in_place(|| postgres.up());
        let end = Instant::now() + PATIENCE;
        while app.get("/readyz").await.0 != 200 {
            assert!(Instant::now() < end, "the server does not recover");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (_, found) = app
            .json("POST", "/policy/query?fields=name&limit=10000", &json!({"name": {"$regex": "^w"}}))
            .await;
        wait_until_busy(&app, found["data"].as_array().unwrap().len() + 20).await;
        assert_nothing_lost(&app, writers).await;
    }
    drop(postgres);
}

/// Two servers on one database: what is changed through one is run by the other in its new form.
#[tokio::test(flavor = "multi_thread")]
async fn servers_side_by_side_run_what_is_current() {
    let Some(database) = Database::postgres() else { return };
    let first = TestApp::builder().database(database.clone()).start();
    let second = TestApp::builder().database(database).start();
    first.register(&policy("current", &policy_source("return [1, parameters.get('p')]"))).await;
    let answer = async |app: &TestApp| app.run("current:1.0-test", json!({})).await.1["data"].clone();
    assert_eq!(answer(&second).await, json!([1, null]));
    let changes = [
        (json!({"$set": {"code": policy_source("return [2, parameters.get('p')]")}}), json!([2, null])),
        (json!({"$set": {"policy_parameters.p": 3}}), json!([2, 3])),
    ];
    for (change, expected) in changes {
        assert_eq!(first.json("PUT", "/policy/current:1.0-test", &change).await.0, 200);
        assert_eq!(answer(&first).await, expected, "at once where it was changed");
        let changed = Instant::now();
        while answer(&second).await != expected {
            assert!(changed.elapsed() < Duration::from_secs(2), "the other server still runs the old one");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    first.send("DELETE", "/policy/current:1.0-test", "").await;
    let removed = Instant::now();
    while second.run("current:1.0-test", json!({})).await.0 != 404 {
        assert!(removed.elapsed() < Duration::from_secs(2), "the other server still runs what was removed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What nobody can reach any more is removed, and nothing else. The chores also run at the start, so that nobody has to
/// wait for their next time.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_swept_away() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        for (name, answer) in [("kept", 1), ("gone", 2)] {
            app.register(&policy(name, &policy_source(&format!("return {answer}")))).await;
        }
        let operate = async |body: Value| app.json("POST", "/policy/kept:1.0-test/context", &body).await;
        operate(json!({"op": "set", "key": "short", "value": 1, "ttl_seconds": 0.01})).await;
        operate(json!({"op": "set", "key": "long", "value": 1, "ttl_seconds": 600})).await;
        app.send("DELETE", "/policy/gone:1.0-test", "").await;
        assert_eq!(app.sql("SELECT count(*) FROM bundles").await, 3, "code is kept for an hour");
        tokio::task::block_in_place(|| app.stop());
        app.sql("UPDATE bundles SET used_at = 1 RETURNING used_at").await;
        tokio::task::block_in_place(|| app.restart());
        let end = Instant::now() + PATIENCE;
        // The code of the allocator that every server has stays, too.
        for (sql, rows) in [("SELECT count(*) FROM bundles", 2), ("SELECT count(*) FROM context", 1)] {
            while app.sql(sql).await != rows {
                assert!(Instant::now() < end, "{sql}: not {rows}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert_eq!(app.run("kept:1.0-test", json!({})).await.1["data"], 1, "its code is still there");
    }
}
