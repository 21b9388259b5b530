//! An executor comes into a cluster and leaves it. A small web server of busybox stands for the program.

mod access;
mod lifecycle;
mod problems;

use crate::support::{PATIENCE, TIMEOUT};
use edict_kube::{Address, Cluster, Exposure, Infra, InfraState, Mark};
use edict_testbed::Namespace;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

const SERVE: &str = "mkdir /tmp/w; echo fine > /tmp/w/healthz; echo fine > /tmp/w/readyz; \
                     trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp/w & wait $!";

/// An administrator's cluster, and an executor for it that no other test has.
struct Ground {
    namespace: Namespace,
    cluster: Cluster,
    infra: Infra,
}

impl Ground {
    /// The executor is to come into a namespace of its own.
    async fn new() -> Option<Self> {
        let namespace = Namespace::new()?;
        let cluster = Cluster::from_kubeconfig(&kubeconfig(&namespace), TIMEOUT).await.unwrap();
        let mark = Mark { system: "test-system".to_owned(), executor_id: format!("X_{}", namespace.name()) };
        let infra = Infra {
            namespace: Infra::default_namespace(&mark),
            mark,
            image: namespace.image().to_owned(),
            image_pull_secret: None,
            env: BTreeMap::from([("EDICT_A".to_owned(), "1".to_owned())]),
            secret: BTreeMap::from([("EDICT_TOKEN".to_owned(), "one".to_owned())]),
            port: 8080,
            exposure: Exposure::NodePort,
            ingress: None,
            cache: None,
            node_access: false,
            cpu_request: "10m".to_owned(),
            memory_request: "16Mi".to_owned(),
            memory_limit: "64Mi".to_owned(),
            command: Some(["sh", "-c", SERVE].map(str::to_owned).to_vec()),
        };
        Some(Self { namespace, cluster, infra })
    }

    /// It is to come into the test's namespace.
    async fn in_the_namespace() -> Option<Self> {
        let mut ground = Self::new().await?;
        ground.infra.namespace = ground.namespace.name().to_owned();
        Some(ground)
    }

    async fn ready(&self) {
        self.until(|state| *state == InfraState::Ready).await;
    }

    async fn until(&self, holds: impl Fn(&InfraState) -> bool) -> InfraState {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let state = self.cluster.infra_state(&self.infra).await.unwrap();
            if holds(&state) {
                return state;
            }
            assert!(std::time::Instant::now() < end, "{state:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Removes all of it; what is left.
    async fn uninstall(&self) -> Vec<String> {
        let infra = &self.infra;
        let left = self.cluster.uninstall(&infra.mark, &infra.namespace, 2 * PATIENCE).await.unwrap();
        left.iter().map(ToString::to_string).collect()
    }

    /// `kubectl` in the executor's namespace.
    fn kubectl(&self, arguments: &[&str]) -> String {
        self.namespace.kubectl(&[&["-n", &self.infra.namespace], arguments].concat())
    }

    fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "-o", "json", what])).unwrap()
    }

    fn name(&self) -> String {
        format!("edict-{}", self.infra.mark.key())
    }

    /// Names of all that is in the namespace, of every kind that the cluster has.
    fn contents(&self) -> Vec<String> {
        let here = ["-n", &self.infra.namespace];
        self.every_kind("true", &here, |kind| !kind.starts_with("events"))
    }

    /// Names of all that is in no namespace and carries the executor's name or marks.
    fn cluster_wide(&self) -> Vec<String> {
        let all = self.every_kind("false", &[], |kind| kind != "componentstatuses");
        all.into_iter().filter(|name| name.contains(&self.infra.mark.key())).collect()
    }

    fn every_kind(&self, namespaced: &str, here: &[&str], counts: impl Fn(&str) -> bool) -> Vec<String> {
        let namespaced = format!("--namespaced={namespaced}");
        let kinds = self.namespace.kubectl(&["api-resources", "--verbs=list", "-o", "name", &namespaced]);
        let kinds: Vec<_> = kinds.lines().filter(|kind| counts(kind)).collect();
        let kinds = kinds.join(",");
        let found =
            self.namespace.kubectl(&[here, &["get", "-o", "name", "--ignore-not-found", &kinds]].concat());
        let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    }

    /// Whether a test of the shell succeeds on the node, with the folder of all caches at `/host`.
    fn on_the_node(&self, test: &str) -> bool {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "looks"},
            "spec": {
                "restartPolicy": "Never", "automountServiceAccountToken": false,
                "containers": [{"name": "looks", "image": self.namespace.image(), "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", test], "volumeMounts": [{"name": "host", "mountPath": "/host"}]}],
                "volumes": [{"name": "host", "hostPath": {"path": "/var/lib/edict", "type": "DirectoryOrCreate"}}],
            },
        });
        self.namespace.create(&pod);
        let mut phase = String::new();
        self.namespace.wait_for("a look at the node", || {
            phase = self.namespace.kubectl(&["get", "pod", "looks", "-o", "jsonpath={.status.phase}"]);
            phase == "Succeeded" || phase == "Failed"
        });
        self.namespace.kubectl(&["delete", "pod", "looks"]);
        phase == "Succeeded"
    }
}

impl Drop for Ground {
    /// What a test that failed has left outside its namespace.
    fn drop(&mut self) {
        let selector = self.infra.mark.selector(None);
        let kinds = "namespaces,clusterroles,clusterrolebindings";
        self.namespace.command(&["delete", kinds, "-l", &selector, "--wait=false"]).output().ok();
    }
}

/// The administrator's, as somebody would send it.
fn kubeconfig(namespace: &Namespace) -> Value {
    let config = namespace.kubectl(&["config", "view", "--raw", "--flatten", "--minify", "-o", "json"]);
    serde_json::from_str(&config).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Whether `/healthz` is answered there.
fn answers(address: &Address) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect((address.host.as_str(), address.port))?;
        connection.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer| answer.ends_with("fine\n"))
}
