//! Whatever ends or fails: a decision that was received is in the log.

use crate::support::{Asking, Database, PATIENCE, Postgres, TestApp, asked_by, free_port};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Folders of servers in a data folder, in the order in which the servers started.
fn folders(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("decisions")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn assert_holds(log: &BTreeSet<String>, received: &BTreeSet<String>) {
    let missing: Vec<_> = received.difference(log).collect();
    assert!(missing.is_empty(), "{} of {} decisions are missing", missing.len(), received.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_decision_that_was_received() {
    for sync_ms in [1000, 0] {
        for database in Database::each() {
            let builder = TestApp::builder().database(database);
            let builder = builder.setting("decision_log_sync_ms", sync_ms);
            // The callers go on where they were.
            let mut app = builder.setting("engine_port", free_port()).start();
            let asking = Asking::start(&app);
            for round in 1..=3 {
                asking.until(round * 400).await;
                app.kill();
                tokio::task::block_in_place(|| app.restart());
            }
            asking.until(asking.received() + 50).await;
            let received = asking.stop().await;
            let log = app.logged_ids().await;
            assert_holds(&log, &received);
            assert!(
                log.len() <= received.len() + 3 * 8,
                "only what was under way may be there without a reply"
            );
            assert_eq!(folders(&app.data_dir()).len(), 1, "nothing of former servers is left");
            assert!(app.stop());
            assert_eq!(
                fs::read_dir(app.data_dir().join("decisions")).unwrap().count(),
                0,
                "all of it is in the table"
            );
        }
    }
}

/// What a crash or a power failure can leave in a file, put there by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_cut_short_is_passed_over_and_a_damaged_one_set_aside() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        let asking = Asking::start(&app);
        asking.until(300).await;
        app.kill();
        let received = asking.stop().await;
        let file = folders(&app.data_dir())[0].join("00000000.jsonl");
        let mut file = OpenOptions::new().append(true).open(file).unwrap();
        file.write_all(b"{\"id\":\"half of\0\n{\"id\":\"torn").unwrap();
        tokio::task::block_in_place(|| app.restart());
        let log = app.logged_ids().await;
        assert_holds(&log, &received);
        let aside = fs::read(app.data_dir().join("decisions/damaged.jsonl")).unwrap();
        // The caller whose reply was cut off may have left half a line of its own.
        assert!(aside.ends_with(b"{\"id\":\"half of\0\n"), "{}", String::from_utf8_lossy(&aside));
        assert_eq!(folders(&app.data_dir()).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_go_on_without_the_database_and_reach_it_later() {
    let Some(postgres) = tokio::task::block_in_place(Postgres::start) else { return };
    {
        let mut app = TestApp::builder().database(Database::postgres_at(postgres.url())).start();
        let asking = Asking::start(&app);
        asking.until(200).await;
        tokio::task::block_in_place(|| postgres.kill());
        asking.until(asking.received() + 500).await;
        let refused = app.logged(&[]).await;
        assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &json!("storage_unavailable")));
        // Neither does a server that ends meanwhile lose them.
        app.kill();
        let received = asking.stop().await;
        tokio::task::block_in_place(|| postgres.up());
        tokio::task::block_in_place(|| app.restart());
        let more = Asking::start(&app);
        more.until(100).await;
        tokio::task::block_in_place(|| postgres.kill());
        more.until(more.received() + 100).await;
        tokio::task::block_in_place(|| postgres.up());
        let more = more.stop().await;
        let end = Instant::now() + PATIENCE;
        while app.logged(&[("limit", "1")]).await.status != 200 {
            assert!(Instant::now() < end, "the log does not recover");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_holds(&app.logged_ids().await, &received.union(&more).cloned().collect());
    }
    drop(postgres);
}

/// A small file system of a test's own, unmounted at its end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None, with a line that says so, for users who may not mount. With `CI` set that fails.
    fn mount(at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).status();
        if !done.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "this user may not mount");
            eprintln!("skipped: this user may not mount a file system");
            return None;
        }
        Some(Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_disk_no_decision_is_given_out_until_there_is_room() {
    let mut app = TestApp::start();
    assert!(tokio::task::block_in_place(|| app.stop()));
    let root = app.data_dir().join("decisions");
    let Some(disk) = SmallDisk::mount(&root) else {
        app.restart();
        return;
    };
    let filler = root.join("filler");
    fs::write(&filler, vec![0; 200 << 10]).unwrap();
    tokio::task::block_in_place(|| app.restart());
    let mut request = asked_by("ann");
    request["context"]["metadata"] = json!({"text": "x".repeat(20_000)});
    let mut received = BTreeSet::new();
    let refused = loop {
        let reply = app.asked(&request).await;
        if reply.status != 200 {
            break reply;
        }
        received.insert(reply.json["decisionId"].as_str().unwrap().to_owned());
        assert!(received.len() < 100, "the disk does not fill");
    };
    assert_eq!((refused.status, &refused.json["error"]["code"]), (503, &json!("storage_unavailable")));
    assert!(refused.json.get("allowed").is_none() && !refused.header("retry-after").is_empty());
    fs::remove_file(filler).unwrap();
    // Small ones fit behind it, and nothing of the large one that did not is between them.
    for _ in 0..20 {
        let decision = app.decide(&asked_by("bob")).await;
        received.insert(decision["decisionId"].as_str().unwrap().to_owned());
    }
    assert_eq!(app.logged_ids().await, received);
    assert!(!root.join("damaged.jsonl").exists());
    assert!(tokio::task::block_in_place(|| app.stop()));
    drop(disk);
}

/// What waits for the database is bounded; when the database has taken it, decisions are given out again.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_room_the_log_refuses_and_recovers() {
    let Some(postgres) = tokio::task::block_in_place(Postgres::start) else { return };
    {
        let database = Database::postgres_at(postgres.url());
        let app = TestApp::builder().database(database).setting("decision_log_spool_mb", 1).start();
        tokio::task::block_in_place(|| postgres.kill());
        let mut request = asked_by("ann");
        request["context"]["metadata"] = json!({"text": "x".repeat(50_000)});
        let mut received = 0;
        while app.asked(&request).await.status == 200 {
            received += 1;
            assert!(received < 30, "more than a MiB waits");
        }
        assert!(received > 15, "{received}");
        tokio::task::block_in_place(|| postgres.up());
        let end = Instant::now() + PATIENCE;
        while app.asked(&request).await.status != 200 {
            assert!(Instant::now() < end, "the log does not recover");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let ids = app.logged_ids().await;
        assert_eq!(ids.len(), received + 1, "what was refused is not in the log");
    }
    drop(postgres);
}

/// Servers side by side see each other's decisions, and take nothing from one another while they live.
#[tokio::test(flavor = "multi_thread")]
async fn servers_on_one_data_folder_keep_their_decisions_apart() {
    let Some(database) = Database::postgres() else { return };
    let mut first = TestApp::builder().database(database.clone()).start();
    let mut second = TestApp::builder().database(database).start();
    assert!(tokio::task::block_in_place(|| second.stop()));
    let shared = second.data_dir().join("decisions");
    fs::remove_dir(&shared).unwrap();
    std::os::unix::fs::symlink(first.data_dir().join("decisions"), &shared).unwrap();
    tokio::task::block_in_place(|| second.restart());
    assert_eq!(folders(&first.data_dir()).len(), 2);
    let (one, other) = (Asking::start(&first), Asking::start(&second));
    one.until(300).await;
    other.until(300).await;
    first.kill();
    let (mut received, more) = (one.stop().await, other.stop().await);
    received.extend(more);
    // The second one finds what the first one left when it starts, or while it runs.
    assert!(tokio::task::block_in_place(|| second.stop()));
    tokio::task::block_in_place(|| second.restart());
    assert_holds(&second.logged_ids().await, &received);
    assert_eq!(folders(&second.data_dir()).len(), 1);
    tokio::task::block_in_place(|| first.restart());
}
