//! A policy system that pods reach, and an executor that runs jobs and functions as pods in a namespace of the test's own.

use super::{TestApp, free_port};
use edict_testbed::Namespace;
use serde_json::{Value, json};
use std::net::{IpAddr, TcpListener};

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

    /// Waits until nothing that Edict made is left.
    pub(crate) fn nothing_left(&self) {
        let kinds = "jobs,pods,deployments,replicasets,services,secrets,horizontalpodautoscalers";
        self.namespace.wait_for("everything is gone", || {
            let left = self.namespace.get(&[kinds, "-l", "app.kubernetes.io/managed-by=edict"]);
            left["items"].as_array().unwrap().is_empty()
        });
    }
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
