//! Jobs when things die: every accepted job ends in exactly one final state, and no two attempts of it run at once.

use crate::support::{Database, PATIENCE, Postgres, TestApp, free_port, policy, policy_source, wait_for};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What became of a job's attempts.
#[derive(Debug, Default, Clone)]
struct Seen {
    begun: usize,
    ended: usize,
    running: usize,
    /// The ports from which those that run have called.
    ports: Vec<u16>,
}

#[derive(Debug, Default)]
struct Notes {
    jobs: HashMap<String, Seen>,
    overlaps: Vec<String>,
    most_at_once: usize,
}

/// Hears every attempt begin and end: each keeps a connection for as long as its process lives.
#[derive(Clone)]
struct Witness {
    address: SocketAddr,
    notes: Arc<Mutex<Notes>>,
}

impl Witness {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let witness = Self { address: listener.local_addr().unwrap(), notes: Arc::default() };
        let notes = Arc::clone(&witness.notes);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = Arc::clone(&notes);
                std::thread::spawn(move || hear(stream, &notes));
            }
        });
        witness
    }

    /// Registers the policy whose attempts call here: it takes `{"id", "seconds"}`.
    async fn policy(&self, app: &TestApp) -> String {
        let body = "import socket, time\nline = socket.create_connection(('127.0.0.1', parameters['port']))\nline.sendall(input_data['id'].encode() + b'\\n')\nassert line.recv(1) == b'.'\ntime.sleep(input_data['seconds'])\nline.sendall(b'end\\n')\nassert line.recv(1) == b'.'\nreturn input_data['id']";
        let mut record = policy("witnessed", &policy_source(body));
        record["policy_parameters"] = json!({"port": self.address.port()});
        app.register_record(record).await
    }

    fn seen(&self, id: &str) -> Seen {
        self.notes.lock().unwrap().jobs.get(id).cloned().unwrap_or_default()
    }

    fn running(&self) -> usize {
        self.notes.lock().unwrap().jobs.values().map(|seen| seen.running).sum()
    }

    /// Waits until so many attempts run.
    async fn until_running(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.running() != count {
            assert!(Instant::now() < end, "{} run instead of {count}", self.running());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// No job ran twice at once, and what is completed ran to its end once.
    fn check(&self, jobs: &[Value]) {
        let notes = self.notes.lock().unwrap();
        assert!(notes.overlaps.is_empty(), "ran twice at once: {:?}", notes.overlaps);
        for job in jobs {
            let seen = notes.jobs.get(job["inputs"]["id"].as_str().unwrap()).cloned().unwrap_or_default();
            if job["job_status"] == "completed" {
                assert!(seen.ended >= 1, "completed without having run: {job}");
                assert_eq!(job["job_output_data"], job["inputs"]["id"]);
            }
            assert!(job["attempts"].as_u64().unwrap() as usize >= seen.begun, "{seen:?}: {job}");
        }
    }
}

fn hear(mut stream: TcpStream, notes: &Mutex<Notes>) {
    use std::io::{BufRead, BufReader, Write};
    let port = stream.peer_addr().unwrap().port();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(id)) = lines.next() else { return };
    {
        let mut notes = notes.lock().unwrap();
        let seen = notes.jobs.entry(id.clone()).or_default();
        seen.begun += 1;
        seen.running += 1;
        seen.ports.push(port);
        let twice = seen.running > 1;
        if twice {
            notes.overlaps.push(id.clone());
        }
        let all = notes.jobs.values().map(|seen| seen.running).sum();
        notes.most_at_once = notes.most_at_once.max(all);
    }
    stream.write_all(b".").ok();
    while let Some(Ok(line)) = lines.next() {
        assert_eq!(line, "end");
        notes.lock().unwrap().jobs.get_mut(&id).unwrap().ended += 1;
        stream.write_all(b".").ok();
    }
    let mut notes = notes.lock().unwrap();
    let seen = notes.jobs.get_mut(&id).unwrap();
    seen.running -= 1;
    seen.ports.retain(|other| *other != port);
}

/// The process that holds the connection of a port of 127.0.0.1. Others may have had the port before, or have it at
/// another address.
fn process_with(port: u16) -> u32 {
    wait_for(|| holder(port)).unwrap_or_else(|| panic!("no process has port {port}"))
}

/// While processes come and go all around, one look may miss it.
fn holder(port: u16) -> Option<u32> {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{port:04X}");
    let is_it = |line: &&str| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some(&local) && words.nth(1) == Some(ESTABLISHED)
    };
    let line = table.lines().find(is_it)?;
    let socket = format!("socket:[{}]", line.split_whitespace().nth(9).unwrap());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let files = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| target.to_string_lossy() == socket) {
            return Some(pid);
        }
    }
    None
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn job(uri: &str, id: &str, seconds: f64) -> Value {
    json!({"policy_rule_uri": uri, "inputs": {"id": id, "seconds": seconds}})
}

/// The records of jobs, all of which end.
async fn all_ended(app: &TestApp, ids: &[String]) -> Vec<Value> {
    let mut jobs = Vec::new();
    for id in ids {
        jobs.push(app.ended(id).await);
    }
    jobs
}

fn count(jobs: &[Value], status: &str) -> usize {
    jobs.iter().filter(|job| job["job_status"] == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_fails_its_own_job() {
    for database in Database::each() {
        let (app, witness) = (TestApp::builder().database(database).start(), Witness::start());
        let uri = witness.policy(&app).await;
        let killed = app.submit("local", job(&uri, "killed", 60.0)).await;
        let mut again = job(&uri, "again", 10.0);
        again["backoff_limit"] = json!(1);
        let again = app.submit("local", again).await;
        let other = app.submit("local", job(&uri, "other", 2.0)).await;
        witness.until_running(3).await;
        for id in ["killed", "again"] {
            signal("-9", process_with(witness.seen(id).ports[0]));
        }
        let jobs = all_ended(&app, &[killed, again, other]).await;
        assert_eq!(jobs[0]["error"]["code"], "policy_crashed", "{}", jobs[0]);
        assert_eq!(
            (&jobs[1]["job_status"], &jobs[1]["attempts"]),
            (&json!("completed"), &json!(2)),
            "{}",
            jobs[1]
        );
        assert_eq!(
            (&jobs[2]["job_status"], &jobs[2]["attempts"]),
            (&json!("completed"), &json!(1)),
            "{}",
            jobs[2]
        );
        witness.check(&jobs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_job() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).setting("max_jobs", 3).start();
        let witness = Witness::start();
        let uri = witness.policy(&app).await;
        let mut ids = Vec::new();
        for n in 0..9 {
            ids.push(app.submit("local", job(&uri, &format!("j{n}"), 1.0)).await);
        }
        witness.until_running(3).await;
        app.kill();
        witness.until_running(0).await;
        tokio::task::block_in_place(|| app.restart());
        let jobs = all_ended(&app, &ids).await;
        assert_eq!(count(&jobs, "completed"), 9, "{jobs:?}");
        let attempts: Vec<u64> = jobs.iter().map(|job| job["attempts"].as_u64().unwrap()).collect();
        assert_eq!(attempts.iter().sum::<u64>(), 12, "three were begun twice: {attempts:?}");
        witness.check(&jobs);
    }
}

/// Jobs keep coming while the server is killed again and again.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_accepted_ends_once() {
    for database in Database::each() {
        let port = free_port();
        let mut app = TestApp::builder().database(database).setting("system_port", port).start();
        let witness = Witness::start();
        let uri = witness.policy(&app).await;
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let submit = |n: usize| {
            let (url, uri, accepted) = (app.url(), uri.clone(), Arc::clone(&accepted));
            tokio::spawn(async move {
                for count in 0.. {
                    let job = job(&uri, &format!("{n}-{count}"), 0.05);
                    let sent =
                        crate::support::http().post(format!("{url}/jobs/submit/local")).body(job.to_string());
                    let Ok(reply) = sent.send().await else { continue };
                    if let Ok(reply) = reply.json::<Value>().await {
                        accepted.lock().unwrap().push(reply["job_id"].as_str().unwrap().to_owned());
                    }
                }
            })
        };
        let submitters: Vec<_> = (0..4).map(submit).collect();
        for kill in 1..=3 {
            let end = Instant::now() + PATIENCE;
            while accepted.lock().unwrap().len() < kill * 30 {
                assert!(Instant::now() < end, "jobs are not accepted");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            app.kill();
            tokio::task::block_in_place(|| app.restart());
        }
        submitters.iter().for_each(tokio::task::JoinHandle::abort);
        let ids = accepted.lock().unwrap().clone();
        let jobs = all_ended(&app, &ids).await;
        assert_eq!(count(&jobs, "completed"), ids.len());
        witness.check(&jobs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_killed_executor_are_run_by_its_successor() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut executor = TestApp::executor("e1", &app).setting("max_jobs", 2).start();
        let witness = Witness::start();
        let uri = witness.policy(&app).await;
        let mut ids = Vec::new();
        for n in 0..4 {
            ids.push(app.submit("e1", job(&uri, &format!("j{n}"), 1.5)).await);
        }
        witness.until_running(2).await;
        executor.kill();
        witness.until_running(0).await;
        tokio::task::block_in_place(|| executor.restart());
        let jobs = all_ended(&app, &ids).await;
        assert_eq!(count(&jobs, "completed"), 4, "{jobs:?}");
        assert_eq!(jobs.iter().map(|job| job["attempts"].as_u64().unwrap()).sum::<u64>(), 6, "{jobs:?}");
        witness.check(&jobs);
    }
}

/// An executor goes on while the policy system is away, and tells it afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_works_while_the_policy_system_is_away() {
    for database in Database::each() {
        let port = free_port();
        let mut app = TestApp::builder().database(database).setting("system_port", port).start();
        let executor = TestApp::executor("e1", &app).start();
        let witness = Witness::start();
        let uri = witness.policy(&app).await;
        let id = app.submit("e1", job(&uri, "away", 1.0)).await;
        witness.until_running(1).await;
        app.kill();
        witness.until_running(0).await;
        assert_eq!(witness.seen("away").ended, 1);
        tokio::task::block_in_place(|| app.restart());
        let job = app.ended(&id).await;
        assert_eq!((&job["job_status"], &job["attempts"]), (&json!("completed"), &json!(1)), "{job}");
        drop(executor);
    }
}

/// What a suspended executor had is given to nobody who could run it at the same time, and it does not go on with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_was_suspended_has_no_say_any_more() {
    let app = TestApp::start();
    let executor = TestApp::executor("e1", &app).start();
    let witness = Witness::start();
    let uri = witness.policy(&app).await;
    let id = app.submit("e1", job(&uri, "slow", 14.0)).await;
    witness.until_running(1).await;
    signal("-STOP", executor.pid());
    app.job_is(&id, "pending").await;
    assert_eq!(app.send("DELETE", &format!("/jobs/{id}"), "").await.0, 200);
    signal("-CONT", executor.pid());
    witness.until_running(0).await;
    assert_eq!(witness.seen("slow").ended, 0, "it was ended, not waited for");
    assert_eq!(app.ended(&id).await["job_status"], "cancelled");
    drop(executor);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_finishes_jobs_or_hands_them_back() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).setting("shutdown_grace_seconds", 2).start();
        let witness = Witness::start();
        let uri = witness.policy(&app).await;
        let short = app.submit("local", job(&uri, "short", 1.0)).await;
        let long = app.submit("local", job(&uri, "long", 4.0)).await;
        witness.until_running(2).await;
        assert!(tokio::task::block_in_place(|| app.stop()));
        assert_eq!(witness.running(), 0);
        tokio::task::block_in_place(|| app.restart());
        let jobs = all_ended(&app, &[short, long]).await;
        assert_eq!(count(&jobs, "completed"), 2);
        assert_eq!((&jobs[0]["attempts"], &jobs[1]["attempts"]), (&json!(1), &json!(2)), "{jobs:?}");
        witness.check(&jobs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_stops_hands_its_jobs_back() {
    let app = TestApp::start();
    let mut executor = TestApp::executor("e1", &app).setting("shutdown_grace_seconds", 1).start();
    let witness = Witness::start();
    let uri = witness.policy(&app).await;
    let id = app.submit("e1", job(&uri, "long", 3.0)).await;
    witness.until_running(1).await;
    assert!(tokio::task::block_in_place(|| executor.stop()));
    let waiting = app.get(&format!("/jobs/{id}")).await.1["data"].clone();
    assert_eq!((&waiting["job_status"], &waiting["error"]), (&json!("pending"), &Value::Null), "{waiting}");
    tokio::task::block_in_place(|| executor.restart());
    let job = app.ended(&id).await;
    assert_eq!((&job["job_status"], &job["attempts"]), (&json!("completed"), &json!(2)), "{job}");
    witness.check(&[job]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_lost_again_and_again_fails() {
    let (mut app, witness) = (TestApp::start(), Witness::start());
    let uri = witness.policy(&app).await;
    let id = app.submit("local", job(&uri, "fatal", 60.0)).await;
    for _ in 0..5 {
        witness.until_running(1).await;
        app.kill();
        witness.until_running(0).await;
        tokio::task::block_in_place(|| app.restart());
    }
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["job_status"], &job["error"]["code"]),
        (&json!("failed"), &json!("executor_unreachable")),
        "{job}"
    );
    assert_eq!(job["attempts"], 5);
    witness.check(&[job]);
}

/// Servers side by side share the queue, hear of each other's jobs, and take over from one that died.
#[tokio::test(flavor = "multi_thread")]
async fn servers_side_by_side_share_jobs() {
    let Some(database) = Database::postgres() else { return };
    let start = || TestApp::builder().database(database.clone()).setting("max_jobs", 1).start();
    let (first, mut second) = (start(), start());
    let witness = Witness::start();
    let uri = witness.policy(&first).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(first.submit("local", job(&uri, &format!("j{n}"), 2.0)).await);
    }
    witness.until_running(2).await;
    let jobs = all_ended(&first, &ids).await;
    assert_eq!((count(&jobs, "completed"), count(&all_ended(&second, &ids).await, "completed")), (4, 4));

    let mut running = Vec::new();
    for n in 0..2 {
        running.push(first.submit("local", job(&uri, &format!("long{n}"), 60.0)).await);
    }
    witness.until_running(2).await;
    // One of them runs at the other server: either way it is ended there.
    assert_eq!(first.send("DELETE", &format!("/jobs/{}", running[0]), "").await.0, 200);
    witness.until_running(1).await;
    assert_eq!(second.send("DELETE", &format!("/jobs/{}", running[1]), "").await.0, 200);
    witness.until_running(0).await;

    let mut ids = Vec::new();
    for n in 0..2 {
        ids.push(second.submit("local", job(&uri, &format!("taken{n}"), 3.0)).await);
    }
    witness.until_running(2).await;
    second.kill();
    let jobs = all_ended(&first, &ids).await;
    assert_eq!(count(&jobs, "completed"), 2);
    assert_eq!(jobs.iter().map(|job| job["attempts"].as_u64().unwrap()).sum::<u64>(), 3, "{jobs:?}");
    witness.check(&jobs);
    tokio::task::block_in_place(|| second.restart());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_loses_no_job() {
    let Some(postgres) = tokio::task::block_in_place(Postgres::start) else { return };
    {
        let app =
            TestApp::builder().database(Database::postgres_at(postgres.url())).setting("max_jobs", 4).start();
        let witness = Witness::start();
        let uri = witness.policy(&app).await;
        let mut ids = Vec::new();
        for n in 0..8 {
            ids.push(app.submit("local", job(&uri, &format!("j{n}"), 1.0)).await);
        }
        witness.until_running(4).await;
        tokio::task::block_in_place(|| postgres.kill());
        witness.until_running(0).await;
        tokio::task::block_in_place(|| postgres.up());
        let end = Instant::now() + PATIENCE;
        while app.get("/readyz").await.0 != 200 {
            assert!(Instant::now() < end, "the server does not recover");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let jobs = all_ended(&app, &ids).await;
        assert_eq!(count(&jobs, "completed"), 8);
        witness.check(&jobs);
    }
    drop(postgres);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_jobs_are_removed_with_their_logs() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).setting("job_retention_days", 0).start();
        let uri = app.add("prints", "print('hello')").await;
        let id = app.submit("local", json!({"policy_rule_uri": uri, "inputs": {}})).await;
        app.ended(&id).await;
        assert_eq!(app.sql("SELECT count(*) FROM job_logs").await, 1);
        tokio::task::block_in_place(|| {
            app.stop();
            app.restart();
        });
        let end = Instant::now() + PATIENCE;
        while app.get(&format!("/jobs/{id}")).await.0 != 404 {
            assert!(Instant::now() < end, "it is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(app.sql("SELECT count(*) FROM job_logs").await, 0);
    }
}

/// Jobs that wait for an executor whose record is removed do not wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_removed_executor_fail() {
    for database in Database::each() {
        let mut app = TestApp::builder().database(database).start();
        let uri = app.add("never", "return 1").await;
        let record = json!({"executor_id": "gone", "executor_host_uri": "http://127.0.0.1:9"});
        assert_eq!(app.json("POST", "/executor", &record).await.0, 200);
        let id = app.submit("gone", json!({"policy_rule_uri": uri, "inputs": {}})).await;
        assert_eq!(app.send("DELETE", "/executor/gone", "").await.0, 200);
        tokio::task::block_in_place(|| app.stop());
        // As if half a minute had passed.
        app.sql("UPDATE jobs SET ready_at = 1 RETURNING ready_at").await;
        tokio::task::block_in_place(|| app.restart());
        let job = app.ended(&id).await;
        assert_eq!(
            (&job["job_status"], &job["error"]["code"]),
            (&json!("failed"), &json!("executor_not_found")),
            "{job}"
        );
    }
}
