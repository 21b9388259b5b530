//! A whole fleet: an executor that the policy system put into a cluster, with jobs, functions and graphs on it, and what happens when
//! parts of it go away.

use crate::infra::Site;
use crate::requirements::Index;
use crate::support::Builder;
use crate::support::{pods::image, policy, policy_source};
use edict_testbed::PATIENCE;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// A run counts itself where all see it, and waits for a word in the context before it ends.
const WAITING: &str = "\
import time
context.incr('runs')
while not context.get('go'):
    time.sleep(0.1)
return context.incr('ends')";

/// A policy that needs a package, and says where it runs.
const PACKAGED: &str = "\
import edict_sample, socket
return [socket.gethostname(), edict_sample.ANSWER]";

impl Site {
    /// Sets the executor up.
    async fn join(&self, image: &str) {
        let request = block_in_place(|| self.create(image));
        let (status, made) = self.send("POST", "/executor/edge/create-infra", &request).await;
        assert_eq!(status, 200, "{made}");
    }

    async fn job(&self, uri: &str) -> String {
        self.app.submit("edge", json!({"policy_rule_uri": uri, "inputs": {}})).await
    }

    /// Calls a function until it answers.
    async fn answers(&self, name: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let (status, mut reply) = self.app.call(name, json!({})).await;
            if status == 200 {
                return reply["data"].take();
            }
            assert!(Instant::now() < end, "it does not answer: {reply}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A policy that waits long enough, and knows how long its runs may take.
    async fn waiting(&self, name: &str) -> String {
        let mut record = policy(name, &policy_source(WAITING));
        record["execution_limits"] = json!({"timeout_ms": 300_000});
        self.app.register_record(record).await
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.namespace.kubectl(&[arguments, &["-n", &self.made]].concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_in_a_cluster_may_be_killed_in_the_middle() {
    let Some(namespace) = block_in_place(edict_testbed::Namespace::new) else { return };
    let Some((image, address)) = block_in_place(|| image(&namespace)) else { return };
    let index = Index::start(address, Duration::ZERO).await;
    index.there.store(true, Ordering::SeqCst);
    // Calls wait as long as this test does: the kubelet may be away meanwhile, see below.
    let settings = |builder: Builder| {
        builder.setting("index_url", &index.url).setting("executor_patience_seconds", PATIENCE.as_secs())
    };
    let Some(site) = block_in_place(|| Site::with(settings)) else { return };
    site.join(&image).await;
    // Requirements come from the index that the policy system names, once for all pods of the node.
    let files =
        [("code/function.py", &*policy_source(PACKAGED)), ("code/requirements.txt", "edict-sample==1.0\n")];
    let packaged = site.app.register_archive("packaged", &files).await;
    let job = site.job(&packaged).await;
    let job = site.app.over(&job).await;
    assert_eq!(job["job_output_data"][1], 42, "{job}");
    let (status, reply) = site.app.deploy("edge", "packaged", &packaged, json!({})).await;
    assert_eq!(status, 200, "{reply}");
    let first = site.answers("packaged").await;
    assert_eq!(index.asked.load(Ordering::SeqCst), 1, "the second pod found it on its node");
    let here = site.app.add("here", "return input_data").await;
    site.app.deployed("local", "here", &here, json!({})).await;
    let graph = site.app.graph("mixed", &["here", "packaged"], json!({"here": ["packaged"]})).await;
    assert_eq!(site.app.output(&graph, json!({})).await[1], 42);

    let waiting = site.waiting("waiting").await;
    let jobs = [site.job(&waiting).await, site.job(&waiting).await];
    site.app.begun(&waiting, 2).await;
    let executor = ["-l", "app.kubernetes.io/component=executor"];
    block_in_place(|| {
        let kill = ["delete", "pods", "--grace-period=0", "--force"];
        site.kubectl(&[&kill[..], &executor].concat());
    });
    site.app.go(&waiting).await;
    for job in &jobs {
        let job = site.app.over(job).await;
        assert_eq!((&job["job_status"], &job["attempts"]), (&json!("completed"), &json!(1)), "{job}");
    }
    // What is submitted while it is away is carried out when it is back, and calls go to the pods that were there.
    let later = site.job(&waiting).await;
    assert_eq!(site.app.over(&later).await["job_output_data"], 3);
    assert_eq!(site.answers("packaged").await[0], first[0], "the same pod");

    // One that is started anew in an orderly way loses no call: each waits for it.
    let deployment = block_in_place(|| {
        let name = site.kubectl(&[&["get", "deployment", "-o", "name"][..], &executor].concat());
        site.kubectl(&["rollout", "restart", name.trim()]);
        name
    });
    let mut rollout = site.namespace.command(&["rollout", "status", deployment.trim(), "-n", &site.made]);
    let mut rollout = rollout.stdout(Stdio::null()).spawn().unwrap();
    let ended = loop {
        let (status, reply) = site.app.call("packaged", json!({})).await;
        assert_eq!((status, &reply["data"][0]), (200, &first[0]), "{reply}");
        if let Some(ended) = rollout.try_wait().unwrap() {
            break ended;
        }
    };
    assert!(ended.success(), "it does not come back: {ended}");

    // What it leaves undone waits for whoever has its name next.
    site.app.context(&waiting, json!({"op": "delete", "key": "go"})).await;
    let undone = site.job(&waiting).await;
    site.app.begun(&waiting, 4).await;
    let removed = site.remove().await;
    assert_eq!(removed["removed"], true);
    let (_, function) = site.app.get("/function/packaged").await;
    assert_eq!(function["data"]["function_status"]["state"], "pending", "{function}");
    site.app.job_is(&undone, "pending").await;
    assert_eq!(block_in_place(|| site.objects()), "");
    assert!(
        !block_in_place(|| site.namespace.kubectl(&["get", "namespaces", "-o", "name"])).contains(&site.made)
    );
}

/// A kubelet that was stopped, and is started anew when this is dropped.
struct Stopped {
    pid: String,
    command: Vec<String>,
    /// Where it logs; whoever started it keeps its process id beside that.
    log: PathBuf,
}

impl Stopped {
    /// None where the node is not this machine.
    fn now() -> Option<Self> {
        let found = Command::new("pgrep").args(["-x", "kubelet"]).output().ok()?;
        let pid = String::from_utf8(found.stdout).ok()?.lines().next()?.to_owned();
        let process = Path::new("/proc").join(&pid);
        let command = fs::read_to_string(process.join("cmdline")).ok()?;
        let command = command.split_terminator('\0').map(str::to_owned).collect();
        let log = fs::read_link(process.join("fd/1")).ok()?;
        let stopped = Command::new("kill").arg(&pid).status().ok()?.success();
        let end = Instant::now() + PATIENCE;
        while process.join("exe").exists() {
            assert!(Instant::now() < end, "the kubelet does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        stopped.then_some(Self { pid, command, log })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        let mut command = Command::new("setsid");
        command.args(&self.command).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let pid = command.spawn().unwrap().id().to_string();
        let kept = self.log.with_extension("pid");
        if fs::read_to_string(&kept).is_ok_and(|old| old.trim() == self.pid) {
            fs::write(kept, pid).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_be_restarted() {
    let Some(site) = block_in_place(Site::start) else { return };
    let Some((image, _)) = block_in_place(|| image(&site.namespace)) else { return };
    site.join(&image).await;
    let echo = site.app.add("echo", "return input_data").await;
    let (status, reply) = site.app.deploy("edge", "echo", &echo, json!({})).await;
    assert_eq!(status, 200, "{reply}");
    site.answers("echo").await;
    let waiting = site.waiting("waiting").await;
    let running = site.job(&waiting).await;
    site.app.begun(&waiting, 1).await;
    let Some(stopped) = Stopped::now() else {
        eprintln!("skipped: the cluster's node is not this machine");
        site.remove().await;
        return;
    };
    site.app.go(&waiting).await;
    // Containers go on, and so does what they do.
    let job = site.app.over(&running).await;
    assert_eq!((&job["job_status"], &job["job_output_data"]), (&json!("completed"), &json!(1)), "{job}");
    assert_eq!(site.app.called("echo", json!({"a": 1})).await, json!({"a": 1}));
    let later = site.job(&waiting).await;
    site.namespace.wait_for("the job has a pod that nobody starts", || {
        site.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.phase}"]).contains("Pending")
    });
    assert_eq!(site.app.get(&format!("/jobs/{later}")).await.1["data"]["job_status"], "running");
    drop(stopped);
    let job = site.app.over(&later).await;
    assert_eq!((&job["job_status"], &job["attempts"]), (&json!("completed"), &json!(1)), "{job}");
    site.app.called("echo", json!({})).await;
    site.app.send("DELETE", "/function/deployments/remove/echo", "").await;
    site.remove().await;
    assert_eq!(block_in_place(|| site.objects()), "");
}
