//! The image and the manifests, in a real cluster.

use crate::support::{Postgres, http, pods, policy, policy_source};
use edict_testbed::{Namespace, PATIENCE};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const TOKEN: &str = "admin-of-the-cluster";

/// What makes the disruption budget one that this cluster has.
const OLD_BUDGET: &str = r#"[{"op": "replace", "path": "/apiVersion", "value": "policy/v1beta1"}]"#;

/// An overlay over one in `deploy/kubernetes`, moved to the test's namespace.
fn overlay(namespace: &Namespace, over: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let dir = TempDir::new().unwrap();
    let manifests =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes").canonicalize().unwrap();
    // Kustomize takes relative paths only.
    let up = "../".repeat(dir.path().canonicalize().unwrap().components().count() - 1);
    let mut overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": namespace.name(),
        "resources": [format!("{up}{}", manifests.join(over).strip_prefix("/").unwrap().display())],
    });
    if !namespace.kubectl(&["api-versions"]).lines().any(|version| version == "policy/v1") {
        overlay["patches"] = json!([{"target": {"kind": "PodDisruptionBudget"}, "patch": OLD_BUDGET}]);
    }
    change(&mut overlay);
    std::fs::write(dir.path().join("kustomization.yaml"), overlay.to_string()).unwrap();
    dir
}

#[test]
fn a_cluster_takes_the_manifests() {
    let Some(namespace) = Namespace::new() else { return };
    for (over, objects) in [("base", 8), ("example", 9), ("kubernetes-1.20", 8)] {
        let overlay = overlay(&namespace, over, |_| {});
        let folder = overlay.path().to_str().unwrap();
        let took = namespace.kubectl(&["apply", "--dry-run=server", "-o", "name", "-k", folder]);
        assert_eq!(took.lines().count(), objects, "{over}: {took}");
    }
}

/// Two servers behind a service, and callers that never stop.
struct Served {
    namespace: Namespace,
    url: String,
    _postgres: Postgres,
}

impl Served {
    /// None, with a line that says so, where the test needs more than there is.
    fn start() -> Option<Self> {
        // They replace servers under load, which wants a machine of its own.
        if std::env::var_os("EDICT_TEST_IMAGES").is_none() {
            eprintln!("skipped: it is asked for with EDICT_TEST_IMAGES");
            return None;
        }
        let namespace = Namespace::new()?;
        let (image, address) = pods::image(&namespace)?;
        let postgres = Postgres::start_at(address)?;
        namespace.kubectl(&[
            "create",
            "secret",
            "generic",
            "edict",
            &format!("--from-literal=database-url={}", postgres.url()),
            &format!("--from-literal=auth-tokens=admin:{TOKEN}"),
            "--from-literal=jwt-secret=what-actions-are-signed-with",
        ]);
        let (name, tag) = image.rsplit_once(':').unwrap();
        let overlay = overlay(&namespace, "base", |overlay| {
            overlay["images"] = json!([{"name": "edict", "newName": name, "newTag": tag}]);
        });
        namespace.kubectl(&["apply", "-k", overlay.path().to_str().unwrap()]);
        namespace.rolled_out("edict");
        let service = namespace.get(&["service", "edict"]);
        let url = format!("http://{}:5000", service["spec"]["clusterIP"].as_str().unwrap());
        Some(Self { namespace, url, _postgres: postgres })
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, reply) = send(&http(), &self.url, method, path, body).await.unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {reply}");
        reply
    }
}

async fn send(
    client: &reqwest::Client,
    url: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<(u16, Value), reqwest::Error> {
    let request =
        client.request(method.parse().unwrap(), format!("{url}{path}")).bearer_auth(TOKEN).json(body);
    let response = request.timeout(PATIENCE).send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

/// Calls until it is told to stop; what failed.
async fn call(
    url: String,
    client: reqwest::Client,
    (path, body): (&'static str, Value),
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut failed = Vec::new();
    // As fast as they can, they would leave thousands of jobs to wait for.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        match send(&client, &url, "POST", path, &body).await {
            Ok((200 | 201, _)) => drop(count.fetch_add(1, Ordering::Relaxed)),
            other => failed.push(format!("{path}: {other:?}")),
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_in_a_cluster_are_replaced_without_losing_a_request() {
    let Some(served) = tokio::task::block_in_place(Served::start) else { return };
    served.send("POST", "/policy", &policy("echo", &policy_source("return input_data"))).await;
    let function = json!({"name": "f", "policy_rule_uri": "echo:1.0-test"});
    served.send("POST", "/function/deployments/create/local?wait=60s", &function).await;

    let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let requests = [
        ("/function/call_function/f", json!({"n": 1})),
        (
            "/executor/local/execute_policy",
            json!({"policy_rule_uri": "echo:1.0-test", "input_data": {"n": 1}}),
        ),
        ("/jobs/submit/local", json!({"policy_rule_uri": "echo:1.0-test", "inputs": {"n": 1}})),
    ];
    // Those who keep connections, and those who open one for each request.
    let keeping = crate::support::http_builder().build().unwrap();
    let fleeting = crate::support::http_builder().pool_max_idle_per_host(0).build().unwrap();
    let callers: Vec<_> = [keeping, fleeting]
        .iter()
        .flat_map(|client| requests.iter().map(move |request| (client.clone(), request.clone())))
        .map(|(client, request)| {
            tokio::spawn(call(served.url.clone(), client, request, Arc::clone(&stop), Arc::clone(&count)))
        })
        .collect();
    let before = pods(&served.namespace);
    tokio::task::block_in_place(|| {
        served.namespace.kubectl(&["rollout", "restart", "deployment/edict"]);
        served.namespace.rolled_out("edict");
        // Those that were told to go serve on for a while; then they are gone.
        for pod in &before {
            served.namespace.kubectl(&["wait", "--for=delete", &format!("pod/{pod}"), "--timeout=120s"]);
        }
    });
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Vec::<String>::new());
    }
    assert!(count.load(Ordering::Relaxed) > 0);
    let after = pods(&served.namespace);
    assert!(after.len() == 2 && !after.iter().any(|pod| before.contains(pod)), "{before:?} {after:?}");
    // Whatever was accepted is done, by whichever server.
    loop {
        let open = json!({"job_status": {"$in": ["pending", "running"]}});
        if served.send("POST", "/jobs/query?limit=1", &open).await["data"] == json!([]) {
            break;
        }
    }
    let failed = served.send("POST", "/jobs/query", &json!({"job_status": {"$ne": "completed"}})).await;
    assert_eq!(failed["data"], json!([]));
}

fn pods(namespace: &Namespace) -> Vec<String> {
    let pods = namespace.get(&["pods", "-l", "app.kubernetes.io/name=edict"]);
    let pods = pods["items"].as_array().unwrap().iter();
    pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// What a policy can get hold of in a pod without any rights.
const CURIOUS: &str = "
import os
found = {}
def look(name, what):
    try:
        found[name] = bool(what())
    except OSError:
        found[name] = False
for process in filter(str.isdigit, os.listdir('/proc')):
    look(process, lambda: 'EDICT_' in open(f'/proc/{process}/environ').read())
secrets = any(found.values())
found = {'secrets': secrets}
look('data', lambda: os.listdir('/data'))
look('service account', lambda: os.listdir('/var/run/secrets/kubernetes.io'))
look('own temporary file', lambda: open(os.path.join(os.environ['TMPDIR'], 'x'), 'w').write('x'))
return found";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_needs_no_rights_and_policies_get_none() {
    let Some(served) = tokio::task::block_in_place(Served::start) else { return };
    let inside =
        |command: &[&str]| served.namespace.kubectl(&[&["exec", "deployment/edict", "--"], command].concat());
    assert_eq!(inside(&["id", "-u"]).trim(), "10001");
    let doctor: Value = serde_json::from_str(&inside(&["edict", "doctor", "--output", "json"])).unwrap();
    let findings = doctor.as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["state"] != "bad"), "{doctor}");
    for what in ["python", "uv", "seccomp", "protection", "database"] {
        assert!(
            findings.iter().any(|finding| finding["what"] == what && finding["state"] == "ok"),
            "{doctor}"
        );
    }
    assert_eq!(
        inside(&["sh", "-c", "touch /usr/x /etc/x 2>/dev/null || echo read-only"]).trim(),
        "read-only"
    );
    served.send("POST", "/policy", &policy("curious", &policy_source(CURIOUS))).await;
    let run = json!({"policy_rule_uri": "curious:1.0-test", "input_data": {}});
    let found = served.send("POST", "/executor/local/execute_policy", &run).await;
    let expected =
        json!({"secrets": false, "data": false, "service account": false, "own temporary file": true});
    assert_eq!(found["data"], expected);
}
