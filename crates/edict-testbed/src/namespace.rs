//! A namespace per test, with the rights of `deploy/rbac.yaml` and workloads of busybox.

use serde_json::{Value, json};
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for something that a cluster does in seconds.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How many tests use the cluster at once, for each processor. A node that has to start and end pods for more takes minutes for
/// each of them, and no more get done.
const PLACES: usize = 2;

/// Tests that use the cluster right now.
static TAKEN: Mutex<usize> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

/// Ends at once when it is told to: as process 1 it would not, without a handler.
const WORK: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

/// A place among the tests that use the cluster; free again when dropped.
struct Place;

impl Place {
    /// Waits for one.
    fn take() -> Self {
        let places = PLACES * std::thread::available_parallelism().map_or(1, NonZero::get);
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken >= places;
        *LEFT.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        LEFT.notify_one();
    }
}

/// A namespace of a test's own; removed, with everything in it, when dropped.
pub struct Namespace {
    name: String,
    admin: PathBuf,
    image: String,
    cluster: Value,
    dir: TempDir,
    _place: Place,
}

impl Namespace {
    /// A new namespace with Edict's service account; None, with a line that says so, without a cluster. With `CI` set that
    /// fails.
    #[must_use]
    pub fn new() -> Option<Self> {
        let Some(admin) = std::env::var_os("EDICT_TEST_KUBECONFIG") else {
            assert!(
                std::env::var_os("CI").is_none(),
                "EDICT_TEST_KUBECONFIG is not set: use `cargo xtask test`, with EDICT_TEST_CLUSTER or EDICT_TEST_KUBECONFIG"
            );
            eprintln!("skipped on a cluster: EDICT_TEST_KUBECONFIG is not set");
            return None;
        };
        let name = format!("edict-{}", uuid::Uuid::new_v4().simple());
        // Any cluster that reaches a registry has this one.
        let image =
            std::env::var("EDICT_TEST_IMAGE").unwrap_or_else(|_| "docker.io/library/busybox:1".to_owned());
        let (admin, dir) = (PathBuf::from(admin), TempDir::new().unwrap());
        let mut namespace = Self { name, admin, image, cluster: Value::Null, dir, _place: Place::take() };
        let config = namespace.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]);
        let config: Value = serde_json::from_str(&config).unwrap();
        namespace.cluster = config["clusters"][0]["cluster"].clone();
        let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name}});
        namespace.send(&["create", "-f", "-"], &made.to_string());
        let rbac = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/rbac.yaml");
        namespace.kubectl(&["apply", "--validate=false", "-f", rbac]);
        Some(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image that workloads are made of; by itself it does nothing, for good.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// A kubeconfig of Edict's service account here.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_at(None)
    }

    /// The same, for an API server at another address.
    #[must_use]
    pub fn kubeconfig_via(&self, server: &str) -> PathBuf {
        self.kubeconfig_at(Some(server))
    }

    /// A new token of Edict's service account; with the name of a secret, one that is good for as long as that is there.
    #[must_use]
    pub fn token(&self, bound_to: Option<&str>) -> String {
        let mut request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        if let Some(secret) = bound_to {
            request["spec"]["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Secret", "name": secret});
        }
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/edict/token", self.name);
        let answer: Value =
            serde_json::from_str(&self.send(&["create", "--raw", &path, "-f", "-"], &request.to_string()))
                .unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// A user's `client-certificate-data` and `client-key-data`, good for so many days from now, signed by the authority of a
    /// cluster that a script has started: its key is beside the kubeconfig. None, with a line that says so, on other clusters.
    #[must_use]
    pub fn client_certificate(&self, user: &str, days: i32) -> Option<(String, String)> {
        let authority = self.admin.with_file_name("pki");
        if !authority.join("ca.key").exists() {
            eprintln!("skipped on this cluster: nobody has the key of its authority");
            return None;
        }
        let path = |folder: &Path, name: &str| folder.join(name).display().to_string();
        let here = |name: &str| path(self.dir.path(), &format!("{user}.{name}"));
        let openssl = |arguments: &[&str]| run(Command::new("openssl").args(arguments));
        let (key, request, certificate) = (here("key"), here("csr"), here("crt"));
        let subject = format!("/CN={user}");
        // With an extension it is of version 3, the only one that everybody takes.
        let wanted = ["req", "-newkey", "rsa:2048", "-nodes", "-addext", "extendedKeyUsage=clientAuth"];
        openssl(&[&wanted[..], &["-subj", &subject, "-keyout", &key, "-out", &request]].concat());
        let (ca, ca_key) = (path(&authority, "ca.crt"), path(&authority, "ca.key"));
        let signed = ["x509", "-req", "-copy_extensions", "copy", "-CA", &ca, "-CAkey", &ca_key];
        let serial = ["-set_serial", "1", "-days", &days.to_string()];
        openssl(&[&signed[..], &serial, &["-in", &request, "-out", &certificate]].concat());
        let data = |file: &str| openssl(&["base64", "-A", "-in", file]);
        Some((data(&certificate), data(&key)))
    }

    /// Writes a kubeconfig with this token.
    pub fn write_kubeconfig(&self, path: &Path, server: Option<&str>, token: &str) {
        let mut cluster = self.cluster.clone();
        if let Some(server) = server {
            cluster = json!({"server": server});
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "edict", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "edict"}}],
        });
        std::fs::write(path, config.to_string()).unwrap();
    }

    fn kubeconfig_at(&self, server: Option<&str>) -> PathBuf {
        let path = self.dir.path().join(format!("kubeconfig-{}", uuid::Uuid::new_v4().simple()));
        self.write_kubeconfig(&path, server, &self.token(None));
        path
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn admin(&self) -> &Path {
        &self.admin
    }

    /// A command for `kubectl` in this namespace, as the cluster's administrator.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.admin).args(["-n", &self.name]).args(arguments);
        command
    }

    /// Runs `kubectl`; expects success and returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Runs `kubectl` with this text at its standard input.
    pub fn send(&self, arguments: &[&str], text: &str) -> String {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        succeeded(&command, child.wait_with_output().unwrap())
    }

    /// Creates an object.
    pub fn create(&self, object: &Value) {
        self.send(&["create", "--validate=false", "-f", "-"], &object.to_string());
    }

    /// What `kubectl get` shows, as JSON: an object such as `deployment/web`, or a list.
    #[must_use]
    pub fn get(&self, what: &[&str]) -> Value {
        let arguments = [&["get", "-o", "json"], what].concat();
        serde_json::from_str(&self.kubectl(&arguments)).unwrap()
    }

    /// A container that runs until it is told to stop.
    #[must_use]
    pub fn container(&self) -> Value {
        json!({"name": "work", "image": self.image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", WORK]})
    }

    /// The specification of a pod that runs, and ends, quickly.
    #[must_use]
    pub fn pod_spec(&self) -> Value {
        json!({"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
            "containers": [self.container()]})
    }

    /// The record of a deployment that becomes healthy.
    #[must_use]
    pub fn deployment_record(&self, name: &str, replicas: u32) -> Value {
        let labels = json!({"app": name});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": self.pod_spec()},
            },
        })
    }

    /// Makes a deployment and waits until it is healthy.
    pub fn deployment(&self, name: &str, replicas: u32) {
        self.create(&self.deployment_record(name, replicas));
        self.rolled_out(name);
    }

    /// Waits until a deployment's rollout is complete.
    pub fn rolled_out(&self, name: &str) {
        self.kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=120s"]);
    }

    /// Gives a deployment another revision, whose pods have this variable set; does not wait for them.
    pub fn revise(&self, name: &str, value: &str) {
        self.change(name, &json!({"env": [{"name": "REVISION", "value": value}]}));
    }

    /// Gives a deployment a revision that crashes and is never ready, and waits until Kubernetes holds it back for that.
    pub fn break_deployment(&self, name: &str) {
        self.change(
            name,
            &json!({"command": ["sh", "-c", "exit 1"],
            "readinessProbe": {"exec": {"command": ["false"]}}}),
        );
        self.wait_for("a pod in CrashLoopBackOff", || {
            self.get(&["pods", "-l", &format!("app={name}")]).to_string().contains("CrashLoopBackOff")
        });
    }

    fn change(&self, deployment: &str, container: &Value) {
        let mut container = container.clone();
        container["name"] = json!("work");
        let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        self.kubectl(&["patch", "deployment", deployment, "-p", &patch.to_string()]);
    }

    /// Makes a pod that no controller owns and waits until it runs.
    pub fn pod(&self, name: &str) {
        self.create(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": self.pod_spec()}),
        );
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"]);
    }

    /// The names of a deployment's pods that are not being deleted.
    #[must_use]
    pub fn pods_of(&self, deployment: &str) -> Vec<String> {
        let pods = self.get(&["pods", "-l", &format!("app={deployment}")]);
        let pods = pods["items"].as_array().unwrap().iter().map(|pod| &pod["metadata"]);
        let living = pods.filter(|metadata| metadata["deletionTimestamp"].is_null());
        living.map(|metadata| metadata["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether a pod of this name is there and not being deleted.
    #[must_use]
    pub fn has_pod(&self, name: &str) -> bool {
        let found = self.kubectl(&["get", "pod", name, "--ignore-not-found", "-o", "json"]);
        let pod: Value = serde_json::from_str(&found).unwrap_or_default();
        !pod.is_null() && pod["metadata"]["deletionTimestamp"].is_null()
    }

    /// Polls until it holds.
    pub fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}\n{}", self.shown());
            // Each look is a process, and takes about a tenth of a second of a processor.
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// What is in it, for whoever reads of a failure.
    fn shown(&self) -> String {
        let all = self.command(&["get", "all,events", "-o", "wide"]).output();
        all.map(|all| String::from_utf8_lossy(&all.stdout).into_owned()).unwrap_or_default()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- namespace {} ---\n{}", self.name, self.shown());
        }
        self.command(&["delete", "namespace", &self.name, "--wait=false"]).output().ok();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    succeeded(command, output)
}

fn succeeded(command: &Command, output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
