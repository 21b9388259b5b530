//! A policy system that pods reach, and an executor that runs jobs and functions as pods in a namespace of the test's own.

use super::{TestApp, free_port};
use edict_testbed::{Namespace, PATIENCE};
use serde_json::{Value, json};
use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

/// What the test's own requests present.
pub(crate) const TOKEN: &str = "admin-of-the-test";

/// The executor's id.
pub(crate) const WEST: &str = "west";

/// Dropped in this order: nobody restores what goes.
pub(crate) struct Pods {
    pub(crate) executor: TestApp,
    pub(crate) app: TestApp,
    pub(crate) namespace: Namespace,
}

/// The image of the program under test; None, with a line that says so, where there is none, or no cluster on this machine.
pub(crate) fn image(namespace: &Namespace) -> Option<(String, IpAddr)> {
    let image = std::env::var("EDICT_TEST_IMAGE_EDICT").ok();
    let found = image.zip(address(namespace));
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "EDICT_TEST_IMAGE_EDICT is not set: use `cargo xtask test`"
        );
        eprintln!("skipped: it needs EDICT_TEST_IMAGE_EDICT, and a cluster on this machine");
    }
    found
}

/// An address of this machine that pods reach: the node's, if the cluster runs here.
pub(crate) fn address(namespace: &Namespace) -> Option<IpAddr> {
    let nodes = namespace.get(&["nodes"]);
    let addresses = nodes["items"][0]["status"]["addresses"].as_array()?;
    let internal = addresses.iter().find(|address| address["type"] == "InternalIP")?;
    let address: IpAddr = internal["address"].as_str()?.parse().ok()?;
    TcpListener::bind((address, 0)).ok().map(|_| address)
}

impl Pods {
    /// None, with a line that says so, where the test needs more than there is.
    pub(crate) fn start() -> Option<Self> {
        Self::with(|_| {})
    }

    /// The same, with the executor's settings changed.
    pub(crate) fn with(change: impl FnOnce(&mut Vec<(&'static str, String)>)) -> Option<Self> {
        let namespace = Namespace::new()?;
        let (image, address) = image(&namespace)?;
        let builder = TestApp::builder().setting("bind", address).setting("system_port", free_port());
        let app = builder.token(TOKEN).start();
        grant(&namespace);
        let mut settings = vec![("pod_image", image)];
        change(&mut settings);
        let mut executor = TestApp::executor(WEST, &app)
            .setting("bind", address)
            .setting("executor_port", free_port())
            .setting("backend", "kubernetes")
            .setting("system_id", namespace.name())
            .setting("pod_namespace", namespace.name())
            .setting("kubeconfig", namespace.kubeconfig().display())
            .env("EDICT_AUTH_TOKENS", "admin:nobody-asks-it")
            .env("EDICT_SERVER_TOKEN", TOKEN);
        for (name, value) in settings {
            executor = executor.setting(name, value);
        }
        Some(Self { executor: executor.start(), app, namespace })
    }

    /// The names of what there is of a kind.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let all = self.namespace.get(&[kind]);
        let names = all["items"].as_array().unwrap().iter();
        names.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The only object of a kind that Edict made.
    pub(crate) fn only(&self, kind: &str) -> Value {
        let all = self.namespace.get(&[kind, "-l", "app.kubernetes.io/managed-by=edict"]);
        assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all:#}");
        all["items"][0].clone()
    }

    /// Waits until nothing that Edict made is left but the secret that jobs share.
    pub(crate) fn nothing_left(&self) {
        let kinds = "jobs,pods,deployments,replicasets,services,secrets,horizontalpodautoscalers";
        self.namespace.wait_for("everything is gone", || {
            let left = self.namespace.get(&[kinds, "-l", "app.kubernetes.io/managed-by=edict"]);
            let mut names = left["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]);
            names.all(|name| name.as_str().unwrap().starts_with("jobs-"))
        });
    }
}

/// Jobs that take as long as pods do on a machine that is full, and tell of themselves by way of their policy's context: they count
/// `runs` when they begin, and wait for `go`.
impl TestApp {
    /// A job's record, when it has ended.
    pub(crate) async fn over(&self, job_id: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let (status, mut reply) = self.get(&format!("/jobs/{job_id}?wait=20s")).await;
            assert_eq!(status, 200, "{reply}");
            if reply["data"]["finished_at"].is_string() {
                return reply["data"].take();
            }
            assert!(Instant::now() < end, "it has not ended: {reply}");
        }
    }

    /// One operation on a policy's context.
    pub(crate) async fn context(&self, uri: &str, operation: Value) -> Value {
        let (status, mut reply) = self.json("POST", &format!("/policy/{uri}/context"), &operation).await;
        assert_eq!(status, 200, "{reply}");
        reply["data"].take()
    }

    /// A number in a policy's context.
    pub(crate) async fn counted(&self, uri: &str, key: &str) -> Value {
        self.context(uri, json!({"op": "incr", "key": key, "by": 0})).await
    }

    /// Waits until so many runs of the policy have begun.
    pub(crate) async fn begun(&self, uri: &str, count: u64) {
        let end = Instant::now() + PATIENCE;
        while self.counted(uri, "runs").await != json!(count) {
            assert!(Instant::now() < end, "{count} have not begun");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets the runs end that wait.
    pub(crate) async fn go(&self, uri: &str) {
        self.context(uri, json!({"op": "set", "key": "go", "value": true})).await;
    }
}

/// Reads what Kubernetes wraps the contents of secrets in.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').map(value).collect();
    let bits = |group: &[u8]| group.iter().fold(0u32, |bits, letter| bits << 6 | u32::from(*letter));
    let bytes = |group: &[u8]| {
        let bits = bits(group) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    letters.chunks(4).flat_map(bytes).collect()
}

/// Gives the namespace's account what an executor there may do.
fn grant(namespace: &Namespace) {
    let rules: Vec<Value> = edict_kube::RIGHTS
        .iter()
        .map(
            |(group, resource, verbs)| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}),
        )
        .collect();
    namespace.create(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "executor"},
        "rules": rules,
    }));
    namespace.kubectl(&[
        "create",
        "rolebinding",
        "executor",
        "--role=executor",
        &format!("--serviceaccount={}:edict", namespace.name()),
    ]);
}
