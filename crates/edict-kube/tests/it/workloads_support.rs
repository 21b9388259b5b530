//! What the tests of jobs and functions have in common: an executor's service account with the rights that are documented,
//! and busybox in the place of the program.

use crate::support::{PATIENCE, TIMEOUT};
use edict_kube::{
    Cluster, FunctionPods, FunctionSeen, JobEnd, JobPod, Mark, PodOptions, Problem, RIGHTS, Workloads,
};
use edict_testbed::{Namespace, Proxy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Ends at once when it is told to.
pub(crate) const WORK: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

/// A replica: says that it is ready and well.
pub(crate) const SERVE: &str = "mkdir -p /tmp/www && echo ok > /tmp/www/readyz && echo ok > /tmp/www/healthz; \
    trap 'exit 0' TERM; busybox httpd -f -p 8080 -h /tmp/www & wait $!";

pub(crate) struct Executor {
    pub(crate) namespace: Namespace,
    pub(crate) workloads: Arc<Workloads>,
}

impl Executor {
    pub(crate) async fn start() -> Option<Self> {
        let namespace = Namespace::new()?;
        limit(&namespace);
        let workloads = open(&namespace, &namespace.kubeconfig()).await;
        Some(Self { namespace, workloads })
    }

    pub(crate) async fn with_proxy() -> Option<(Self, Proxy)> {
        let namespace = Namespace::new()?;
        limit(&namespace);
        let proxy = Proxy::start(&namespace).await;
        let workloads = open(&namespace, &proxy.kubeconfig(&namespace)).await;
        Some((Self { namespace, workloads }, proxy))
    }

    /// Another process of the same executor.
    pub(crate) async fn again(&self) -> Arc<Workloads> {
        open(&self.namespace, &self.namespace.kubeconfig()).await
    }

    /// Starts an attempt and waits for its end.
    pub(crate) async fn run(&self, job: &JobPod) -> JobEnd {
        self.workloads.start_job(job).await.unwrap();
        self.ended(job).await
    }

    pub(crate) async fn ended(&self, job: &JobPod) -> JobEnd {
        let ended = self.workloads.job_ended(&job.job_id, job.attempt);
        tokio::time::timeout(PATIENCE, ended).await.expect("the job does not end")
    }

    pub(crate) async fn running(&self, job: &JobPod) {
        let attempt = json!([job.job_id, job.attempt.to_string()]);
        self.namespace.wait_for("it runs", || {
            self.get("pods")["items"].as_array().unwrap().iter().any(|pod| {
                let annotations = &pod["metadata"]["annotations"];
                let of = json!([annotations["edict.dev/job-id"], annotations["edict.dev/attempt"]]);
                of == attempt && pod["status"]["phase"] == "Running"
            })
        });
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let mut changes = self.workloads.changes();
        let holding = async {
            while !holds() {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, holding).await.unwrap_or_else(|_| panic!("{what}: not in time"));
    }

    /// Puts a function and waits until all of its pods are of this edition and ready.
    pub(crate) async fn serve(&self, function: &FunctionPods) -> FunctionSeen {
        self.workloads.put_function(function).await.unwrap();
        let seen = || self.workloads.function(&function.name);
        self.until("all replicas are ready", || {
            let seen = seen();
            // What is seen may be older than what was put.
            let wanted = match &function.autoscale {
                Some(rule) => (rule.min..=rule.max).contains(&seen.desired),
                None => seen.desired == function.replicas,
            };
            wanted
                && seen.pods.len() == seen.desired as usize
                && seen.pods.iter().all(|pod| pod.ready && !pod.leaving && pod.edition == function.edition)
        })
        .await;
        seen()
    }

    /// Names of all objects of the kinds that are made here, but for the secret that jobs share, which stays.
    pub(crate) fn objects(&self) -> Vec<String> {
        let kinds = "jobs,pods,secrets,services,deployments,replicasets,horizontalpodautoscalers";
        let all = self.namespace.kubectl(&["get", kinds, "-o", "name"]);
        let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
        all.retain(|name| !name.contains("-token-") && !name.starts_with("secret/jobs-"));
        all
    }

    /// Waits until nothing is left but what was there before.
    pub(crate) fn clean(&self, before: &[String]) {
        self.namespace.wait_for("nothing is left", || self.objects() == before);
    }

    pub(crate) fn get(&self, what: &str) -> Value {
        self.namespace.get(&[what])
    }
}

pub(crate) fn mark() -> Mark {
    Mark { system: "test".to_owned(), executor_id: "one".to_owned() }
}

/// The service account may do what is documented, and nothing else.
fn limit(namespace: &Namespace) {
    let rules: Vec<Value> = RIGHTS
        .iter()
        .map(
            |(group, resource, verbs)| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}),
        )
        .collect();
    let patch = json!([{"op": "replace", "path": "/rules", "value": rules}]);
    namespace.kubectl(&["patch", "role", "edict", "--type=json", "-p", &patch.to_string()]);
    namespace.wait_for("the change of the role", || {
        let account = format!("system:serviceaccount:{}:edict", namespace.name());
        let may = namespace.command(&["auth", "can-i", "create", "jobs", "--as", &account]).output().unwrap();
        may.status.success()
    });
}

async fn open(namespace: &Namespace, kubeconfig: &Path) -> Arc<Workloads> {
    let cluster = Cluster::connect(Some(kubeconfig), TIMEOUT).await.unwrap();
    let options = options(namespace);
    Workloads::start(Arc::new(cluster), mark(), namespace.name().to_owned(), options).await.unwrap()
}

fn options(namespace: &Namespace) -> PodOptions {
    PodOptions {
        image: namespace.image().to_owned(),
        env: BTreeMap::from([("SHARED".to_owned(), "shared".to_owned())]),
        job_secret: BTreeMap::from([("TOKEN".to_owned(), "s3cret".to_owned())]),
        cpu_request: "10m".to_owned(),
        command: Some(vec!["sh".to_owned(), "-c".to_owned()]),
        patience: Duration::from_secs(5),
        ..PodOptions::default()
    }
}

/// Workloads with other options than most.
pub(crate) async fn open_with(executor: &Executor, change: impl FnOnce(&mut PodOptions)) -> Arc<Workloads> {
    let cluster = Cluster::connect(Some(&executor.namespace.kubeconfig()), TIMEOUT).await.unwrap();
    let mut options = options(&executor.namespace);
    change(&mut options);
    Workloads::start(Arc::new(cluster), mark(), executor.namespace.name().to_owned(), options).await.unwrap()
}

/// An attempt that runs this script.
pub(crate) fn job(id: &str, script: &str) -> JobPod {
    JobPod {
        job_id: id.to_owned(),
        attempt: 1,
        revision: 7,
        args: vec![script.to_owned()],
        env: BTreeMap::from([("OWN".to_owned(), "own".to_owned())]),
        node_selector: BTreeMap::new(),
        memory_mb: 16,
        deadline: Duration::from_secs(300),
        ttl: Duration::from_secs(600),
    }
}

/// A function whose replicas run this script.
pub(crate) fn function(name: &str, script: &str, replicas: u32) -> FunctionPods {
    FunctionPods {
        name: name.to_owned(),
        edition: "e1".to_owned(),
        args: vec![script.to_owned()],
        env: BTreeMap::new(),
        secret: BTreeMap::from([("TOKEN".to_owned(), "s3cret".to_owned())]),
        node_selector: BTreeMap::new(),
        memory_mb: 16,
        replicas,
        autoscale: None,
        grace: Duration::from_secs(5),
        port: 8080,
        start_patience: Duration::from_secs(60),
    }
}

/// What an attempt failed with.
pub(crate) fn failed(end: JobEnd) -> (Option<i32>, Problem) {
    match end {
        JobEnd::Failed { exit_code, problem } => (exit_code, problem),
        other => panic!("it did not fail: {other:?}"),
    }
}
