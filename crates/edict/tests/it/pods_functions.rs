//! Functions that run as pods of a real cluster.

use crate::support::pods::{Pods, WEST};
use crate::support::{Load, policy, policy_source};
use edict_testbed::PATIENCE;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// A policy that says who answers, and takes commands.
const WHO: &str = r#"
import os, socket, time
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.settings, self.parameters, self.calls = settings, parameters, 0
        if parameters.get("broken"): raise ImportError("half done")

    def eval(self, parameters, input_data, context):
        if input_data == "end": os._exit(3)
        if input_data == "print": print("printed by", socket.gethostname())
        if isinstance(input_data, float): time.sleep(input_data)
        self.calls += 1
        return [socket.gethostname(), parameters, self.calls]

    def management(self, action, data):
        self.parameters.update(data)
        return [action, socket.gethostname()]
"#;

impl Pods {
    async fn who(&self) -> String {
        self.app.register_record(policy("who", WHO)).await
    }

    /// The function's status, once this holds for it.
    async fn status(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let (_, mut reply) = self.app.get(&format!("/function/{name}")).await;
            let status = reply["data"]["function_status"].take();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < end, "it does not come to that: {status}\n{}", self.executor.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ready(&self, name: &str, replicas: u64) -> Value {
        self.status(name, |status| status["state"] == "ready" && status["ready"] == replicas).await
    }

    /// Deploys and waits until it is ready.
    async fn deployed(&self, name: &str, uri: &str, more: Value) {
        let replicas = more["replicas"].as_u64().unwrap_or(1);
        let (status, reply) = self.app.deploy(WEST, name, uri, more).await;
        assert_eq!(status, 200, "{reply}");
        self.ready(name, replicas).await;
    }

    /// The pods that answer calls that come at once.
    async fn answering(&self, name: &str) -> HashSet<String> {
        let calls = (0..8).map(|_| self.app.called(name, json!(0.2)));
        let answers = futures::future::join_all(calls).await;
        answers.iter().map(|answer| answer[0].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_a_deployment_whose_pods_are_called() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.who().await;
    let before = pods.namespace.get(&["all,secrets,hpa"]);
    let rule = json!({"min_replicas": 1, "max_replicas": 4, "target_cpu_utilization_percentage": 70});
    pods.deployed("funcA", &uri, json!({"replicas": 2, "policy_rule_parameters": {"a": 1}})).await;
    let names: HashSet<String> = pods.names("pods").into_iter().collect();
    assert_eq!(pods.answering("funcA").await, names);
    assert_eq!(pods.app.called("funcA", json!(0)).await[1], json!({"a": 1}));
    let calls: u64 = {
        let answers = futures::future::join_all((0..10).map(|_| pods.app.called("funcA", json!(0)))).await;
        answers.iter().map(|answer| answer[2].as_u64().unwrap()).max().unwrap()
    };
    assert!(calls > 1, "an instance remembers");
    // Another name, but for its case, is another function.
    pods.deployed("funca", &uri, json!({"replicas": 1})).await;
    assert_eq!(pods.names("deployments").len(), 2);
    let (status, reply) = pods.app.send("DELETE", "/function/deployments/remove/funca", "").await;
    assert_eq!(status, 200, "{reply}");
    pods.namespace.wait_for("one is left", || pods.names("deployments").len() == 1);
    // What a policy prints is to be had.
    pods.app.called("funcA", json!("print")).await;
    let (_, logs) = pods.app.get("/function/funcA/logs").await;
    assert!(logs["data"].to_string().contains("printed by"), "{logs}");
    // Its autoscaler is the cluster's.
    let (status, reply) = pods.app.change_function("funcA", &json!({"autoscaling": rule})).await;
    assert_eq!(status, 200, "{reply}");
    pods.namespace.wait_for("an autoscaler", || !pods.names("hpa").is_empty());
    let scaler = pods.only("hpa");
    assert_eq!(scaler["spec"]["maxReplicas"], 4, "{scaler}");
    let deployment = pods.only("deployment");
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    // Its own word on how many there are to be is not taken back.
    let name = deployment["metadata"]["name"].as_str().unwrap();
    pods.namespace.kubectl(&["scale", "deployment", name, "--replicas=3"]);
    pods.ready("funcA", 3).await;
    let (status, _) = pods.app.change_function("funcA", &json!({"autoscaling": null, "replicas": 1})).await;
    assert_eq!(status, 200);
    pods.ready("funcA", 1).await;
    pods.namespace.wait_for("no autoscaler", || pods.names("hpa").is_empty());
    let (status, _) = pods.app.send("DELETE", "/function/deployments/remove/funcA", "").await;
    assert_eq!(status, 200);
    block_in_place(|| pods.nothing_left());
    let left = |all: &Value| all["items"].as_array().unwrap().len();
    assert_eq!(left(&pods.namespace.get(&["all,secrets,hpa"])), left(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_every_pod_and_those_that_come_later() {
    let Some(mut pods) = block_in_place(Pods::start) else { return };
    let uri = pods.who().await;
    pods.deployed("f", &uri, json!({"replicas": 2})).await;
    let (status, reply) = pods.app.command("f", "set", json!({"level": 7})).await;
    assert_eq!(status, 200, "{reply}");
    let knows = async |pods: &Pods| {
        let answers = futures::future::join_all((0..6).map(|_| pods.app.called("f", json!(0.1)))).await;
        answers.iter().all(|answer| answer[1]["level"] == 7)
    };
    assert!(knows(&pods).await);
    pods.app.change_function("f", &json!({"replicas": 3})).await;
    pods.ready("f", 3).await;
    assert_eq!(pods.answering("f").await.len(), 3);
    assert!(knows(&pods).await, "a later one knows as well");
    // Its executor's end is not the end of its pods.
    let before: HashSet<String> = pods.names("pods").into_iter().collect();
    pods.executor.kill();
    block_in_place(|| pods.executor.restart());
    pods.ready("f", 3).await;
    assert!(knows(&pods).await);
    assert_eq!(before, pods.names("pods").into_iter().collect());
    // A pod that goes is made up for.
    let pod = pods.names("pods").remove(0);
    pods.namespace.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    pods.ready("f", 3).await;
    assert!(knows(&pods).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_to_another_version_fails_no_call_in_pods() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let version = |number: u32| {
        let source = policy_source(&format!("import time\ntime.sleep(0.005)\nreturn [{number}, parameters]"));
        let mut record = policy("p", &source);
        record["version"] = number.to_string().into();
        record
    };
    let (old, new) = (pods.app.register_record(version(1)).await, pods.app.register_record(version(2)).await);
    pods.deployed("f", &old, json!({"replicas": 2})).await;
    let load = Load::start(&pods.app, "f", &json!(0), 4);
    for (revision, uri) in [(2, &new), (3, &old)] {
        let (status, reply) = pods.app.change_function("f", &json!({"policy_rule_uri": uri})).await;
        assert_eq!(status, 200, "{reply}");
        pods.status("f", |status| status["state"] == "ready" && status["revision"] == revision).await;
    }
    pods.app.change_function("f", &json!({"replicas": 1})).await;
    pods.ready("f", 1).await;
    let replies = load.stop().await;
    let failed: Vec<_> = replies.iter().filter(|(status, _)| *status != 200).collect();
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), replies.len(), failed[0]);
    let versions: HashSet<u64> =
        replies.iter().map(|(_, reply)| reply["data"][0].as_u64().unwrap()).collect();
    assert_eq!(versions, HashSet::from([1, 2]), "it was called throughout");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_behind_edicts_back_comes_back() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.who().await;
    pods.deployed("f", &uri, json!({})).await;
    for kind in ["deployment", "service"] {
        let object = pods.only(kind);
        let name = object["metadata"]["name"].as_str().unwrap();
        pods.namespace.kubectl(&["delete", kind, name]);
        pods.namespace.wait_for("it is there again", || pods.names(kind).iter().any(|other| other == name));
        pods.ready("f", 1).await;
        pods.app.called("f", json!(0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_others_are_left_alone() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.who().await;
    pods.deployed("f", &uri, json!({})).await;
    let name = pods.only("deployment")["metadata"]["name"].as_str().unwrap().to_owned();
    pods.app.send("DELETE", "/function/deployments/remove/f", "").await;
    block_in_place(|| pods.nothing_left());
    pods.namespace.deployment(&name, 1);
    let foreign = pods.namespace.get(&["deployment", &name]);
    let (status, reply) = pods.app.deploy(WEST, "f", &uri, json!({})).await;
    assert_eq!(status, 200, "{reply}");
    let told = pods.status("f", |status| status["state"] == "failed").await;
    assert_eq!(told["error"]["code"], "pod_failed", "{told}");
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains(&name) && message.contains("was not made by"), "{told}");
    let (status, _) = pods.app.send("DELETE", "/function/deployments/remove/f", "").await;
    assert_eq!(status, 200);
    let after = pods.namespace.get(&["deployment", &name]);
    assert_eq!(after["metadata"]["uid"], foreign["metadata"]["uid"]);
    assert_eq!(after["metadata"]["generation"], foreign["metadata"]["generation"], "nobody touched it");
    // Once it is gone, there is nothing in the way.
    pods.namespace.kubectl(&["delete", "deployment", &name]);
    pods.deployed("f", &uri, json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_start_says_why() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let uri = pods.who().await;
    pods.app.deploy(WEST, "f", &uri, json!({"policy_rule_parameters": {"broken": true}})).await;
    let told = pods.status("f", |status| status["state"] == "failed").await;
    assert!(told["error"]["message"].as_str().unwrap().contains("half done"), "{told}");
    let (status, reply) = pods.app.call("f", json!(0)).await;
    assert_eq!((status, &reply["error"]["code"]), (503, &json!("function_unavailable")), "{reply}");
    // And is mended.
    pods.app.change_function("f", &json!({"policy_rule_parameters": {}})).await;
    pods.ready("f", 1).await;
    // A replica that ends itself harms its own call only.
    let (status, reply) = pods.app.call("f", json!("end")).await;
    assert_eq!((status, &reply["error"]["code"]), (502, &json!("policy_crashed")), "{reply}");
    let end = Instant::now() + PATIENCE;
    while pods.app.call("f", json!(0)).await.0 != 200 {
        assert!(Instant::now() < end, "it does not come back\n{}", pods.executor.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A version that does not start leaves the old one serving.
    pods.app.change_function("f", &json!({"policy_rule_parameters": {"broken": true}})).await;
    let told = pods.status("f", |status| status["state"] == "degraded").await;
    assert!(told["error"]["message"].as_str().unwrap().contains("half done"), "{told}");
    pods.app.called("f", json!(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_runs_over_functions_here_and_in_a_cluster() {
    let Some(pods) = block_in_place(Pods::start) else { return };
    let add = pods
        .app
        .add("add", "return (sum(input_data) if isinstance(input_data, list) else input_data) + 1")
        .await;
    pods.deployed("inPods", &add, json!({})).await;
    pods.app.deployed("local", "here", &add, json!({})).await;
    pods.deployed("alsoInPods", &add, json!({})).await;
    let edges = json!({"here": ["inPods", "alsoInPods"], "inPods": ["alsoInPods"]});
    let uri = pods.app.graph("mixed", &["here", "inPods", "alsoInPods"], edges).await;
    assert_eq!(pods.app.output(&uri, json!(1)).await, 6);
}

/// With an API server that does not answer, functions go on; so they do while the policy system is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn pods_outlive_the_policy_system() {
    let Some(mut pods) = block_in_place(Pods::start) else { return };
    let uri = pods.who().await;
    pods.deployed("f", &uri, json!({"replicas": 2})).await;
    let before: HashSet<String> = pods.names("pods").into_iter().collect();
    pods.app.kill();
    // A pod that is made meanwhile waits for it.
    let pod = pods.names("pods").remove(0);
    pods.namespace.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    pods.namespace.wait_for("another pod runs", || {
        let all = pods.namespace.get(&["pods"]);
        let running = all["items"].as_array().unwrap().iter();
        running.filter(|pod| pod["status"]["phase"] == "Running").count() == 2
    });
    block_in_place(|| pods.app.restart());
    let now: HashSet<String> = pods.names("pods").into_iter().collect();
    assert_eq!(before.intersection(&now).count(), 1, "the other one is as it was");
    let end = Instant::now() + PATIENCE;
    while pods.answering("f").await != now {
        assert!(Instant::now() < end, "the new pod does not serve\n{}", pods.executor.log());
    }
}
