//! Jobs that run as pods of a real cluster.

use crate::support::pods::{Pods, TOKEN, WEST, decoded};
use crate::support::{TestApp, http};
use edict_testbed::PATIENCE;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// A run counts itself where all see it, and may wait for a word in the context before it ends.
const COUNTED: &str = "\
import time
context.incr('runs')
print('begun')
while input_data.get('waits') and not context.get('go'):
    time.sleep(0.1)
context.incr('ends')
return input_data['says']";

impl Pods {
    async fn submit(&self, uri: &str, inputs: Value) -> String {
        self.app.submit(WEST, json!({"policy_rule_uri": uri, "inputs": inputs})).await
    }

    /// Runs of the policy that have begun, and those that came to their end.
    async fn counted(&self, uri: &str) -> (Value, Value) {
        (self.app.counted(uri, "runs").await, self.app.counted(uri, "ends").await)
    }

    /// The token of a job's attempt, from what its pod has: sealed in its specification, and what opens it in a secret.
    fn token_of(&self, job_id: &str) -> String {
        let pod = &self.namespace.get(&["pods", "-l", &format!("edict.dev/job={job_id}")])["items"][0];
        let mut variables = pod["spec"]["containers"][0]["env"].as_array().unwrap().iter();
        let sealed = variables.find(|variable| variable["name"] == "EDICT_JOB_TOKEN").unwrap();
        let sealed = hex::decode(sealed["value"].as_str().unwrap()).unwrap();
        let secret = pod["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"].as_str().unwrap();
        let secret = self.namespace.get(&["secret", secret]);
        let key = hex::decode(decoded(secret["data"]["EDICT_JOB_KEY"].as_str().unwrap())).unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).unwrap());
        let (nonce, sealed) = sealed.split_at(NONCE_LEN);
        let mut token = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
        let token = key.open_in_place(nonce, Aad::from(job_id.as_bytes()), &mut token).unwrap();
        String::from_utf8(token.to_vec()).unwrap()
    }

    async fn counting(&self) -> String {
        self.app.add("counting", COUNTED).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_in_a_pod_and_leaves_nothing_but_its_result() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let body = "import os, socket\nprint('hello from a pod')\nif input_data == 'fail': raise ValueError('as asked')\n\
                return [socket.gethostname(), input_data, parameters, sorted(name for name in os.environ if 'EDICT' in name)]";
    let uri = pods.app.add("where", body).await;
    // The account of this test may not look at the cluster's nodes: labels are what their owner says.
    let labels = json!({"$set": {"metadata.node_labels": {"kubernetes.io/os": "linux"}}});
    assert_eq!(pods.app.json("PUT", &format!("/executor/{WEST}"), &labels).await.0, 200);
    let large = "x".repeat(300_000);
    let job = json!({
        "policy_rule_uri": uri, "inputs": {"large": large}, "policy_rule_parameters": {"p": 1},
        "node_selector": {"kubernetes.io/os": "linux"},
    });
    let (id, failing) = (pods.app.submit(WEST, job).await, pods.submit(&uri, json!("fail")).await);
    let job = pods.app.over(&id).await;
    assert_eq!(job["job_status"], "completed", "{job}");
    let output = &job["job_output_data"];
    assert!(output[0].as_str().unwrap().starts_with("job-"), "{output}");
    assert_eq!((&output[1]["large"], &output[2]["p"]), (&json!(large), &json!(1)));
    assert_eq!(output[3], json!([]), "the policy sees nothing of the pod's settings");
    let node = &pods.namespace.get(&["nodes"])["items"][0]["metadata"]["name"];
    assert_eq!(&job["node_id"], node, "{job}");
    let (_, logs) = pods.app.get(&format!("/jobs/{id}/logs")).await;
    assert!(logs["data"].to_string().contains("hello from a pod"), "{logs}");
    let job = pods.app.over(&failing).await;
    assert_eq!((&job["job_status"], &job["attempts"]), (&json!("failed"), &json!(1)), "{job}");
    assert_eq!((&job["error"]["code"], &job["node_id"]), (&json!("policy_failed"), node), "{job}");
    assert!(job["error"]["message"].as_str().unwrap().contains("as asked"), "{job}");
    let (_, logs) = pods.app.get(&format!("/jobs/{failing}/logs")).await;
    assert!(logs["data"].to_string().contains("hello from a pod"), "{logs}");
    // The Jobs stay for a while for who looks.
    let spec = pods.namespace.get(&["jobs"])["items"].to_string();
    assert!(spec.contains(&id) && !spec.contains(&large[..1000]), "no inputs in the Job: {spec}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_has_no_pod_any_more() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"waits": true, "says": 1})).await;
    pods.app.begun(&uri, 1).await;
    let (status, reply) = pods.app.send("DELETE", &format!("/jobs/{id}"), "").await;
    assert_eq!(status, 200, "{reply}");
    block_in_place(|| pods.nothing_left());
    pods.app.go(&uri).await;
    assert_eq!(pods.app.over(&id).await["job_status"], "cancelled");
    assert_eq!(pods.counted(&uri).await, (json!(1), json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_an_attempt_is_good_for_that_job_while_it_runs() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"waits": true, "says": 1})).await;
    let other = pods.submit(&uri, json!({"waits": true, "says": 2})).await;
    pods.app.begun(&uri, 2).await;
    let (token, url) = (pods.token_of(&id), pods.app.url());
    let shown = pods.namespace.get(&["jobs,pods"]).to_string();
    assert!(shown.contains(&id) && !shown.contains(&token), "no token in the Job: {shown}");
    let ask = async |method: &str, path: String| {
        let request = http().request(method.parse().unwrap(), format!("{url}{path}"));
        request.bearer_auth(&token).body("{}").send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("GET", format!("/jobs/{id}/attempt")).await, 200);
    // The pod has begun it: nobody else does, whatever token they have.
    let begin =
        pods.app.json("POST", &format!("/jobs/{id}/attempt"), &json!({"runner": "somebody else"})).await;
    assert_eq!((begin.0, &begin.1["data"]["begun_elsewhere"]), (200, &json!(true)), "{begin:?}");
    for (method, path) in [
        ("GET", format!("/jobs/{other}/attempt")),
        ("GET", format!("/jobs/{other}")),
        ("GET", format!("/policy/{uri}")),
        ("POST", "/policy".to_owned()),
        ("POST", "/policy/query".to_owned()),
        ("POST", format!("/jobs/submit/{WEST}")),
        ("DELETE", format!("/jobs/{id}")),
        ("POST", format!("/executor/{WEST}/jobs/claim")),
        ("POST", format!("/executor/{WEST}/execute_policy")),
    ] {
        assert_eq!(ask(method, path.clone()).await, 403, "{method} {path}");
    }
    pods.app.go(&uri).await;
    assert_eq!(pods.app.over(&id).await["job_status"], "completed");
    assert_eq!(ask("GET", format!("/jobs/{id}/attempt")).await, 401, "it is over");
    pods.app.over(&other).await;
}

/// As when the executor's token, from which the key is made, changes while a pod waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_token_cannot_be_opened_is_made_up_for() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.app.add("one", "return 1").await;
    let first = pods.submit(&uri, json!({})).await;
    pods.app.over(&first).await;
    let secret = pods.names("secrets").into_iter().find(|name| name.starts_with("jobs-")).unwrap();
    let key = &pods.namespace.get(&["secret", &secret])["data"]["EDICT_JOB_KEY"];
    let set = |key: &Value| {
        let patch = json!({"data": {"EDICT_JOB_KEY": key}}).to_string();
        pods.namespace.kubectl(&["patch", "secret", &secret, "-p", &patch]);
    };
    set(&json!("MDA="));
    let id = pods.submit(&uri, json!({})).await;
    pods.namespace.wait_for("an attempt is lost", || pods.names("jobs").len() > 2);
    set(key);
    let job = pods.app.over(&id).await;
    assert_eq!((&job["job_status"], &job["job_output_data"]), (&json!("completed"), &json!(1)), "{job}");
    assert!(job["attempts"].as_u64().unwrap() > 1, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_without_their_executor() {
    let Some(mut pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    let (first, second) = (
        pods.submit(&uri, json!({"waits": true, "says": "first"})).await,
        pods.submit(&uri, json!({"waits": true, "says": "second"})).await,
    );
    pods.app.begun(&uri, 2).await;
    pods.executor.kill();
    pods.app.go(&uri).await;
    // Nobody is needed for their ends to be known.
    for (id, says) in [(&first, "first"), (&second, "second")] {
        let job = pods.app.over(id).await;
        assert_eq!(
            (&job["job_status"], &job["job_output_data"]),
            (&json!("completed"), &json!(says)),
            "{job}"
        );
    }
    // What is submitted meanwhile waits, and is carried out once.
    let third = pods.submit(&uri, json!({"says": "third"})).await;
    block_in_place(|| pods.executor.restart());
    assert_eq!(pods.app.over(&third).await["job_output_data"], "third");
    assert_eq!(pods.counted(&uri).await, (json!(3), json!(3)), "each ran once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_comes_back_finds_its_jobs() {
    let Some(mut pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"waits": true, "says": 1})).await;
    let doomed = pods.submit(&uri, json!({"waits": true, "says": 2})).await;
    pods.app.begun(&uri, 2).await;
    pods.executor.kill();
    let (status, _) = pods.app.send("DELETE", &format!("/jobs/{doomed}"), "").await;
    assert_eq!(status, 200);
    block_in_place(|| pods.executor.restart());
    pods.namespace.wait_for("the job that was cancelled meanwhile is ended", || {
        let all = pods.namespace.get(&["pods"]);
        let running = all["items"].as_array().unwrap().iter();
        running.filter(|pod| pod["status"]["phase"] == "Running").count() == 1
    });
    pods.app.go(&uri).await;
    assert_eq!(pods.app.over(&id).await["job_output_data"], 1);
    assert_eq!(pods.counted(&uri).await, (json!(2), json!(1)));
}

/// Old clusters make another pod for one that was deleted, also when nobody is there to prevent it.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_not_carried_out_twice_by_pods_that_follow_each_other() {
    let Some(mut pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"waits": true, "says": 1})).await;
    pods.app.begun(&uri, 1).await;
    pods.executor.kill();
    let pod = pods.names("pods").remove(0);
    pods.namespace.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    pods.namespace.wait_for("the job's fate is decided", || {
        let job = pods.only("job");
        job["status"]["active"].is_null() || pods.names("pods").is_empty()
    });
    assert_eq!(pods.counted(&uri).await.0, 1, "it has not run again");
    block_in_place(|| pods.executor.restart());
    pods.app.begun(&uri, 2).await;
    pods.app.go(&uri).await;
    let job = pods.app.over(&id).await;
    assert_eq!((&job["job_status"], &job["attempts"]), (&json!("completed"), &json!(2)), "{job}");
    assert_eq!(pods.counted(&uri).await, (json!(2), json!(1)));
}

/// The result of an attempt that could not be told is read from its pod.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_system_may_be_away_while_a_job_ends() {
    let Some(mut pods) = block_in_place(Pods::start) else { return };
    let source = "import time\nprint('before')\ntime.sleep(input_data)\nprint('after')\nreturn 'done'";
    let uri = pods.app.add("slow", source).await;
    let id = pods.submit(&uri, json!(3)).await;
    let end = Instant::now() + PATIENCE;
    while !pods.app.get(&format!("/jobs/{id}/logs")).await.1["data"].to_string().contains("before") {
        assert!(Instant::now() < end, "it does not begin");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pods.app.kill();
    // Its pod tries for a while, and then leaves word in its own log.
    pods.namespace.wait_for("the pod has given up", || {
        pods.namespace.get(&["pods"])["items"][0]["status"]["phase"] == "Failed"
    });
    block_in_place(|| pods.app.restart());
    let job = pods.app.over(&id).await;
    assert_eq!((&job["job_status"], &job["job_output_data"]), (&json!("completed"), &json!("done")), "{job}");
    assert_eq!(job["attempts"], 1);
    let (_, logs) = pods.app.get(&format!("/jobs/{id}/logs")).await;
    assert!(logs["data"].to_string().contains("after"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_taken_away_is_made_up_for_by_another_attempt() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"waits": true, "says": 1})).await;
    pods.app.begun(&uri, 1).await;
    let pod = pods.names("pods").remove(0);
    pods.namespace.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    pods.app.begun(&uri, 2).await;
    pods.app.go(&uri).await;
    let job = pods.app.over(&id).await;
    assert_eq!((&job["job_status"], &job["attempts"]), (&json!("completed"), &json!(2)), "{job}");
    assert_eq!(pods.counted(&uri).await, (json!(2), json!(1)));
}

/// As a node's upgrade does: with notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_object_is_deleted_is_run_again() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"waits": true, "says": 1})).await;
    pods.app.begun(&uri, 1).await;
    let job = pods.names("jobs").remove(0);
    pods.namespace.kubectl(&["delete", "job", &job, "--wait=false"]);
    pods.app.begun(&uri, 2).await;
    pods.app.go(&uri).await;
    let job = pods.app.over(&id).await;
    assert_eq!(job["job_status"], "completed", "{job}");
    assert_eq!(pods.counted(&uri).await, (json!(2), json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_in_pods() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let mut record = crate::support::policy(
        "greedy",
        &crate::support::policy_source(
            "import time\nif input_data == 'loop': time.sleep(600)\nhoard = bytearray(400 << 20)\nreturn len(hoard)",
        ),
    );
    record["execution_limits"] = json!({"timeout_ms": 2000, "memory_mb": 64});
    let uri = pods.app.register_record(record).await;
    let (looping, hoarding) =
        (pods.submit(&uri, json!("loop")).await, pods.submit(&uri, json!("hoard")).await);
    let job = pods.app.over(&looping).await;
    assert_eq!(
        (&job["job_status"], &job["error"]["code"]),
        (&json!("failed"), &json!("policy_timeout")),
        "{job}"
    );
    let job = pods.app.over(&hoarding).await;
    assert_eq!(job["job_status"], "failed", "{job}");
    assert!(
        ["policy_limit_exceeded", "policy_failed"].contains(&job["error"]["code"].as_str().unwrap()),
        "{job}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_fails_the_job_with_its_name() {
    let missing = "localhost/no-such-image:1";
    let change = |settings: &mut Vec<(&str, String)>| settings[0].1 = missing.to_owned();
    let Some(pods) = block_in_place(|| Pods::with(change)) else { return };
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"says": 1})).await;
    let job = pods.app.over(&id).await;
    assert_eq!(
        (&job["job_status"], &job["error"]["code"]),
        (&json!("failed"), &json!("pod_failed")),
        "{job}"
    );
    assert!(job["error"]["message"].as_str().unwrap().contains(missing), "{job}");
    pods.namespace.wait_for("its pod is gone", || pods.names("pods").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_makes_jobs_wait_and_they_say_so() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.counting().await;
    pods.namespace.kubectl(&["create", "quota", "none", "--hard=pods=0"]);
    let id = pods.submit(&uri, json!({"says": "at last", "waits": true})).await;
    let waits = |job: &Value| job["waiting_for"].as_str().is_some_and(|why| why.contains("quota: none"));
    let job = pods.app.job_until(&id, waits).await;
    assert_eq!(job["job_status"], "running", "{job}");
    pods.namespace.kubectl(&["delete", "quota", "none"]);
    pods.app.job_until(&id, |job| job["waiting_for"].is_null()).await;
    pods.app.go(&uri).await;
    assert_eq!(pods.app.over(&id).await["job_output_data"], "at last");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_with_one_id_do_not_share_its_jobs() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let dir = tempfile::TempDir::new().unwrap();
    let mut second = crate::support::edict(dir.path());
    second.args(["executor", "--executor-id", WEST, "--server-url", &pods.app.url(), "--executor-port", "0"]);
    second.env("EDICT_SERVER_TOKEN", TOKEN).arg("--data-dir").arg(dir.path());
    let output = block_in_place(|| second.output()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("`west` is in use"), "{said}");
    let uri = pods.counting().await;
    let id = pods.submit(&uri, json!({"says": 1})).await;
    assert_eq!(pods.app.over(&id).await["job_status"], "completed");
}

/// What the executor tells of itself is what the cluster has.
#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_the_executors_hardware() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let record = |app: &TestApp| {
        let request = app.request("GET", &format!("/executor/{WEST}"));
        async move { crate::support::reply(request).await.json["data"]["executor_hardware_info"].clone() }
    };
    // The account of this test may not see nodes: the executor then says nothing of them.
    assert!(record(&pods.app).await["nodes"].is_null());
    let binding = pods.namespace.name();
    let account = format!("--serviceaccount={binding}:edict");
    pods.namespace.kubectl(&["create", "clusterrole", binding, "--verb=list", "--resource=nodes"]);
    pods.namespace.kubectl(&[
        "create",
        "clusterrolebinding",
        binding,
        &format!("--clusterrole={binding}"),
        &account,
    ]);
    let Pods { mut executor, app, namespace } = pods;
    block_in_place(|| {
        executor.stop();
        executor.restart();
    });
    let hardware = record(&app).await;
    namespace.kubectl(&["delete", "clusterrole,clusterrolebinding", namespace.name()]);
    let node = &hardware["nodes"]["nodeData"][0];
    assert_eq!(node["labels"]["kubernetes.io/os"], "linux", "{hardware}");
    assert!(
        node["vcpus"]["count"].as_u64().unwrap() > 0 && node["memory"].as_u64().unwrap() > 100,
        "{hardware}"
    );
    assert_eq!(hardware["nodes"]["count"], 1);
}
