//! `edict decide` and `edict decisions`.

use crate::support::{TestApp, edict};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const POLICIES: &str = "\
- name: heal
  description: on weekdays
  type: self_healing
  effect: allow
  actions: [restart_pod]
  resources: ['pod:*']
  conditions:
    role: service
    metadata: {replicas: {$lte: 5}}
    timeRange: {weekday: mon-fri, timeZone: UTC}
- name: frozen
  type: '*'
  effect: deny
  actions: ['*']
  resources: ['*']
  conditions: {policyRuleUri: 'freeze:1.0-stable', role: service}
";

const CASES: &str = "\
now: 2026-11-23T08:00:00Z
policies:
  - {name: extra, type: other, effect: allow, actions: [a], resources: [r]}
cases:
  - name: a monday
    request: &heal {action: restart_pod, resource: 'pod:a', type: self_healing, context: {role: service, metadata: {replicas: 5}}}
    answers: {'freeze:1.0-stable': false}
    questions: ['freeze:1.0-stable']
    allowed: true
    reason: 'allowed by policy `heal`: on weekdays'
    applied: [heal]
    errors: []
    considered: ['extra, type: it is about type `other`, not `self_healing`']
  - name: a sunday
    now: 2026-11-22T08:00:00Z
    request: *heal
    answers: {'freeze:1.0-stable': false}
    allowed: false
  - name: python is down
    request: *heal
    answers: {'freeze:1.0-stable': connection lost}
    allowed: false
    errors: ['frozen, policyRuleUri: `freeze:1.0-stable` gave no answer: connection lost']
  - name: another type
    request: {action: a, resource: r, type: other}
    allowed: true
";

/// Runs `edict` in a folder; returns exit code, stdout and stderr.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let done = edict(folder).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("policies.yaml"), POLICIES).unwrap();
    fs::write(folder.path().join("cases.yaml"), CASES).unwrap();
    folder
}

#[test]
fn the_engine_is_asked() {
    let app = TestApp::start();
    let (folder, url) = (folder(), app.listener("engine"));
    let decide =
        |arguments: &[&str]| run(folder.path(), &[&["decide", "--engine-url", &url], arguments].concat());
    let allowed = "allowed by policy `self-healing-restart-pod`: automation may restart pods\n".to_owned();
    let service = ["restart_pod", "pod:a", "--role", "service"];
    assert_eq!(decide(&service), (0, allowed.clone(), String::new()));
    assert_eq!(
        decide(&["restart_pod", "pod:a", "--role", "x", "--role", "service", "--user", "ann"]),
        (0, allowed, String::new())
    );
    let denied = "no policy allows `restart_pod` on `pod:a`\n".to_owned();
    assert_eq!(decide(&["restart_pod", "pod:a"]), (8, denied.clone(), String::new()));
    assert_eq!(decide(&[&service[..], &["--type", "other"]].concat()), (8, denied, String::new()));
    let (code, stdout, _) =
        decide(&["restart_pod", "pod:a", "--context", r#"{"role": "service"}"#, "--output", "json"]);
    let decision: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &decision["allowed"], &decision["appliedPolicies"]),
        (0, &json!(true), &json!(["self-healing-restart-pod"]))
    );
    assert!(decision["decisionId"].is_string());
    let (code, stdout, _) = decide(&["scale_deployment", "pod:a", "--role", "service", "--explain"]);
    assert!(
        code == 8 && stdout.contains("resource `pod:a` does not match `deployment:*`, `*:resource`"),
        "{stdout}"
    );
    assert_eq!(decide(&["restart_pod"]).0, 2);
    assert_eq!(decide(&["restart_pod", "pod:a", "--metadata", "x"]).0, 2);
    assert_eq!(run(folder.path(), &["decide", "a", "b", "--engine-url", "http://127.0.0.1:9"]).0, 5);
}

#[test]
fn policies_are_pushed_listed_and_removed() {
    let app = TestApp::start();
    let (folder, url) = (folder(), app.listener("engine"));
    let decisions =
        |arguments: &[&str]| run(folder.path(), &[&["decisions", "--engine-url", &url], arguments].concat());
    let (code, stdout, stderr) = decisions(&["push", "policies.yaml"]);
    assert_eq!((code, stdout.as_str()), (0, "2 created, 0 replaced\n"));
    assert!(stderr.contains("no policy `freeze:1.0-stable` is registered yet"), "{stderr}");
    let (code, _, stderr) = decisions(&["push", "policies.yaml"]);
    assert!(code == 4 && stderr.contains("--replace"), "{stderr}");
    assert_eq!(decisions(&["push", "policies.yaml", "--replace"]).1, "0 created, 2 replaced\n");
    let (_, stdout, _) = decisions(&["list", "--query", r#"{"effect": "deny"}"#, "--output", "json"]);
    let listed: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&listed[0]["name"], listed.as_array().unwrap().len()), (&json!("frozen"), 1));
    let (_, stdout, _) = decisions(&["list"]);
    assert!(stdout.lines().any(|line| line.starts_with("heal ")), "{stdout}");
    assert!(decisions(&["get", "heal"]).1.contains("on weekdays"));
    assert_eq!(decisions(&["delete", "heal"]), (0, "deleted heal\n".to_owned(), String::new()));
    assert_eq!(decisions(&["get", "heal"]).0, 3);
    fs::write(folder.path().join("bad.yaml"), "- name: x\n  type: t\n  efect: deny\n").unwrap();
    let (code, _, stderr) = decisions(&["push", "bad.yaml"]);
    assert!(code == 1 && stderr.contains("`bad.yaml`, line 3: `efect` is not a field"), "{stderr}");
}

#[test]
fn files_decide_without_a_server() {
    let folder = folder();
    let decide = |arguments: &[&str]| {
        run(folder.path(), &[&["decide", "--policies", "policies.yaml"], arguments].concat())
    };
    let (code, stdout, stderr) =
        decide(&["restart_pod", "pod:a", "--role", "service", "--metadata", "replicas=5"]);
    assert_eq!((code, stderr.as_str()), (8, ""));
    assert!(
        stdout.contains("not evaluated: policy `frozen`, `policyRuleUri`: `freeze:1.0-stable` was not asked"),
        "{stdout}"
    );
    let (code, stdout, _) =
        decide(&["restart_pod", "pod:a", "--role", "dev", "--explain", "--output", "json"]);
    let explained: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &explained["decisionId"], &explained["considered"][0]["stage"]),
        (8, &Value::Null, &json!("conditions"))
    );
    let metadata = r#"{"replicas": "5"}"#;
    let (_, stdout, _) =
        decide(&["restart_pod", "pod:a", "--role", "dev", "--metadata", metadata, "--explain"]);
    assert!(stdout.contains("condition `metadata.replicas` does not hold: it is `5`"), "{stdout}");
    assert_eq!(run(folder.path(), &["decide", "a", "b", "--policies", "none.yaml"]).0, 1);
}

#[test]
fn cases_are_checked_and_what_differs_is_shown() {
    let folder = folder();
    let check = |arguments: &[&str]| run(folder.path(), &[&["decide", "--cases"], arguments].concat());
    let (code, stdout, stderr) = check(&["cases.yaml", "--policies", "policies.yaml"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{stdout}");
    let wrong = CASES.replacen("allowed: true", "allowed: false", 1).replacen(
        "applied: [heal]",
        "applied: [heal, frozen]",
        1,
    );
    fs::create_dir(folder.path().join("tests")).unwrap();
    fs::write(folder.path().join("tests/wrong.yaml"), wrong).unwrap();
    let (code, stdout, stderr) = check(&["tests", "--policies", "policies.yaml"]);
    assert_eq!((code, stderr.as_str()), (1, "error: 1 of 4 cases failed\n"));
    let difference = "FAILED wrong.yaml: a monday\n         allowed\n           - expected false\n           + found    true\n         \
                      applied\n           - expected [\"heal\",\"frozen\"]\n           + found    [\"heal\"]\n";
    assert!(stdout.starts_with(difference), "{stdout}");
    let (code, stdout, _) = check(&["tests", "--policies", "policies.yaml", "--output", "json"]);
    let outcomes: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &outcomes[0]["passed"], &outcomes[1]["passed"]), (1, &json!(false), &json!(true)));
    // Without the policies, what was allowed is not.
    assert_eq!(check(&["cases.yaml"]).0, 1);
    fs::write(
        folder.path().join("odd.yaml"),
        "cases:\n  - {name: x, request: {action: 1}, allowed: false}\n",
    )
    .unwrap();
    assert!(check(&["odd.yaml"]).1.contains("`action` is `1`; it takes a text"));
    fs::write(folder.path().join("odd.yaml"), "case: []\n").unwrap();
    assert_eq!(check(&["odd.yaml"]).0, 1);
    assert_eq!(check(&["cases.yaml", "--role", "x"]).0, 2);
}
