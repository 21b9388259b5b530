//! The action executor on a real cluster, with the rights of `deploy/rbac.yaml`.

use crate::support::actions::{SECRET, action, signed, verdict};
use crate::support::{Builder, Database, TestApp, edict, reply};
use edict_testbed::Namespace;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::process::{Command, Output};

fn server(namespace: &Namespace) -> Builder {
    TestApp::on_cluster(namespace, &namespace.kubeconfig()).setting("jwt_secret", SECRET)
}

fn deployment(namespace: &Namespace, name: &str) -> Value {
    json!({"namespace": namespace.name(), "deploymentName": name})
}

fn replicas(namespace: &Namespace, name: &str, replicas: u32) -> Value {
    json!({"namespace": namespace.name(), "deploymentName": name, "replicas": replicas})
}

fn pod(namespace: &Namespace, name: &str) -> Value {
    json!({"namespace": namespace.name(), "podName": name})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_is_carried_out_and_audited() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.deployment("web", 1);
    for database in Database::each() {
        let app = server(&namespace).database(database).setting("rate_limit_restart_max", 10).start();
        app.allow(&["delete_pod", "rollback_deployment", "restart_deployment"]).await;
        let waiting = |name: &str, params: Value| {
            let mut body = action(name, params);
            body["wait"] = json!("120s");
            signed(body)
        };
        let victim = namespace.pods_of("web").remove(0);
        let restarted = app.ask(&waiting("restart_pod", pod(&namespace, &victim))).await;
        assert_eq!(verdict(&restarted), (200, ""), "{}", restarted.json);
        assert_eq!(restarted.json["result"]["health"]["healthy"], true, "{}", restarted.json);
        assert!(!namespace.pods_of("web").contains(&victim));
        let scaled = app.ask(&waiting("scale_deployment", replicas(&namespace, "web", 2))).await;
        assert_eq!(scaled.json["result"]["replicasAfter"], 2, "{}", scaled.json);
        assert_eq!(namespace.pods_of("web").len(), 2);
        namespace.revise("web", "two");
        namespace.rolled_out("web");
        let back = app.ask(&waiting("rollback_deployment", deployment(&namespace, "web"))).await;
        assert_eq!(back.json["success"], true, "{}", back.json);
        assert!(!namespace.get(&["deployment/web"]).to_string().contains(r#""value":"two""#));
        let anew = app.ask(&waiting("restart_deployment", deployment(&namespace, "web"))).await;
        assert_eq!(anew.json["result"]["health"]["healthy"], true, "{}", anew.json);
        let victim = namespace.pods_of("web").remove(0);
        let deleted = app.act("delete_pod", pod(&namespace, &victim)).await;
        namespace.wait_for("the pod to go", || !namespace.has_pod(&victim));
        app.act("scale_deployment", replicas(&namespace, "web", 1)).await;
        namespace.rolled_out("web");
        for reply in [&restarted.json, &scaled.json, &back.json, &anew.json, &deleted] {
            let entry = app.audited(&reply["auditId"]).await;
            assert_eq!(
                (&entry["status"], &entry["namespace"]),
                (&json!("completed"), &json!(namespace.name()))
            );
            assert_eq!(entry["result"], reply["result"]);
            assert_eq!(entry["policyDecision"]["allowed"], true);
            assert!(entry["executionDuration"].as_i64().unwrap() > 0, "{entry}");
            let steps: Vec<&str> = entry["steps"]
                .as_array()
                .unwrap()
                .iter()
                .map(|step| step["status"].as_str().unwrap())
                .collect();
            assert_eq!(steps, ["pending", "in_progress", "completed"]);
        }
        let metrics = reply(app.to_actions("GET", "/metrics")).await;
        let metrics = String::from_utf8(metrics.bytes).unwrap();
        let line = format!(
            r#"edict_actions_total{{action="scale_deployment",namespace="{}",result="completed"}} 2"#,
            namespace.name()
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
        assert!(metrics.contains(r#"edict_action_duration_seconds_count{action="delete_pod""#), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_and_counts_for_nothing() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.deployment("web", 1);
    let app = server(&namespace).setting("rate_limit_scale_max", 1).start();
    let before = namespace.pods_of("web");
    let dry = |name: &str, params: Value| {
        let mut body = action(name, params);
        body["dryRun"] = json!(true);
        signed(body)
    };
    for _ in 0..3 {
        let scaled = app.ask(&dry("scale_deployment", replicas(&namespace, "web", 5))).await;
        assert_eq!(verdict(&scaled), (200, ""), "{}", scaled.json);
        assert_eq!(scaled.json["result"]["dryRun"], true);
        assert_eq!(app.audited(&scaled.json["auditId"]).await["dryRun"], true);
    }
    let restarted = app.ask(&dry("restart_pod", pod(&namespace, &before[0]))).await;
    assert_eq!(verdict(&restarted), (200, ""), "{}", restarted.json);
    assert_eq!(namespace.pods_of("web"), before);
    app.act("scale_deployment", replicas(&namespace, "web", 0)).await;
    let limited = app.ask(&signed(action("scale_deployment", replicas(&namespace, "web", 1)))).await;
    assert_eq!(verdict(&limited), (429, "rate_limited"));
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(app.audited(&limited.json["auditId"]).await["status"], "rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_are_not_there_or_must_not_be_touched_are_left_alone() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.deployment("web", 1);
    namespace.pod("alone");
    let app = server(&namespace).start();
    app.allow(&["rollback_deployment"]).await;
    let back =
        |revision: i64| json!({"namespace": namespace.name(), "deploymentName": "web", "revision": revision});
    for (name, params, expected) in [
        ("restart_pod", pod(&namespace, "nobody"), (404, "target_not_found")),
        ("scale_deployment", replicas(&namespace, "nothing", 1), (404, "target_not_found")),
        ("restart_pod", pod(&namespace, "alone"), (409, "target_conflict")),
        ("rollback_deployment", deployment(&namespace, "web"), (404, "revision_not_found")),
        ("rollback_deployment", back(1), (409, "target_conflict")),
        ("rollback_deployment", back(77), (404, "revision_not_found")),
    ] {
        let refused = app.ask(&signed(action(name, params.clone()))).await;
        assert_eq!(verdict(&refused), expected, "{name} {params} {}", refused.json);
        assert_eq!(app.audited(&refused.json["auditId"]).await["status"], "rejected");
    }
    assert!(namespace.has_pod("alone"));
    let mut forced = pod(&namespace, "alone");
    forced["force"] = json!(true);
    app.act("restart_pod", forced).await;
    namespace.wait_for("the pod to go", || !namespace.has_pod("alone"));
}

/// Every restart is of a pod that is there, so that only the limit stands in the way.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_restarts_by_two_servers_exactly_five_pass() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(database) = Database::postgres() else { return };
    namespace.deployment("web", 12);
    let start = || server(&namespace).database(database.clone()).setting("database_connections", 20).start();
    let servers = [start(), start()];
    let pods = namespace.pods_of("web");
    let replies = futures::future::join_all((0..200).map(|index| {
        let body = signed(action("restart_pod", pod(&namespace, &pods[index % pods.len()])));
        let app = &servers[index % 2];
        async move { app.ask(&body).await }
    }))
    .await;
    let passed = replies.iter().filter(|reply| verdict(reply) == (200, "")).count();
    for reply in &replies {
        // Some ask for a pod that another one has just restarted: that is seen before it counts, or by the API server.
        // And with so many at once a database may have no connection left: then nothing is done either.
        let refusals = ["rate_limited", "target_conflict", "target_not_found", "storage_unavailable"];
        let known = verdict(reply) == (200, "") || refusals.contains(&verdict(reply).1);
        assert!(known, "{}", reply.json);
    }
    let begun = "SELECT CAST(count(*) AS bigint) FROM audit_entries WHERE status = 'in_progress'";
    assert_eq!(servers[0].sql(begun).await, 5);
    let failed = "SELECT CAST(count(*) AS bigint) FROM audit_entries WHERE status = 'failed'";
    assert_eq!(servers[0].sql(failed).await, 5 - i64::try_from(passed).unwrap());
    // Two that look at the same pod before either deletes it both do so: the API server takes the second as well.
    let succeeded = replies.iter().filter(|reply| verdict(reply) == (200, ""));
    let deleted: HashSet<&str> =
        succeeded.map(|reply| reply.json["result"]["podName"].as_str().unwrap()).collect();
    let gone: HashSet<&str> = pods.iter().map(String::as_str).filter(|pod| !namespace.has_pod(pod)).collect();
    assert_eq!(gone, deleted);
}

/// The samples of the spec as they stand, but for hosts, ports, names and the key.
const SPEC: &str = include_str!("spec/executor_policy_integration.py");

#[tokio::test(flavor = "multi_thread")]
async fn the_spec_s_client_checks_signs_executes_and_reads_the_audit_id() {
    let Some(namespace) = Namespace::new() else { return };
    let Ok(python) = std::env::var("EDICT_TEST_PYTHON") else { return };
    namespace.deployment("api", 1);
    let app = server(&namespace).start();
    let victim = namespace.pods_of("api").remove(0);
    let program = SPEC
        .replace("http://localhost:3000", &app.listener("engine"))
        .replace("http://localhost:4000", &app.listener("actions"))
        .replace("\"default\"", &format!("\"{}\"", namespace.name()))
        .replace("api-pod-12345", &victim)
        .replace("your_jwt_secret", SECRET);
    let output = Command::new(python).args(["-c", &program]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains("Policy decision: True") && said.contains("Action executed successfully"),
        "{said}"
    );
    let id = said.split("Audit ID: ").nth(1).unwrap().trim();
    let entry = app.audited(&json!(id)).await;
    assert_eq!((&entry["status"], &entry["requestedBy"]), (&json!("completed"), &json!("ai-engine")));
    namespace.wait_for("the pod to be replaced", || {
        let pods = namespace.pods_of("api");
        pods.len() == 1 && pods[0] != victim
    });
}

fn cli(app: &TestApp, namespace: &Namespace, arguments: &[&str]) -> Output {
    let mut command = edict(&app.data_dir());
    command.env("JWT_SECRET", SECRET).env("EDICT_ACTIONS_URL", app.listener("actions"));
    command.env("EDICT_ENGINE_URL", app.listener("engine"));
    command.arg("action").args(arguments).args(["-n", namespace.name(), "--requested-by", "somebody"]);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_signs_and_tells_what_came_of_it() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.deployment("web", 1);
    let app = server(&namespace)
        .setting("require_fresh_signature", true)
        .setting("rate_limit_scale_max", 3)
        .start();
    let code = |output: &Output| output.status.code().unwrap();
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let done =
        cli(&app, &namespace, &["scale", "web", "--replicas", "2", "--wait", "2m", "--output", "json"]);
    assert_eq!(code(&done), 0, "{}", said(&done));
    let reply: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(reply["result"]["health"]["healthy"], true);
    assert_eq!(app.audited(&reply["auditId"]).await["requestedBy"], "somebody");
    let shown = cli(&app, &namespace, &["scale", "web", "--replicas", "1", "--dry-run"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("auditId") && shown.contains("replicasAfter"), "{shown}");
    let denied = cli(&app, &namespace, &["rollback", "web"]);
    assert_eq!(code(&denied), 8, "{}", said(&denied));
    assert!(
        said(&denied).contains("action_not_allowed") && said(&denied).contains("audit:"),
        "{}",
        said(&denied)
    );
    let unasked = cli(&app, &namespace, &["rollback", "web", "--check"]);
    assert_eq!(code(&unasked), 8, "{}", said(&unasked));
    assert!(said(&unasked).contains("decision:"), "{}", said(&unasked));
    assert_eq!(code(&cli(&app, &namespace, &["scale", "web", "--replicas", "2", "--dry-run", "--check"])), 0);
    assert_eq!(code(&cli(&app, &namespace, &["restart-deployment", "web", "--force"])), 4);
    assert_eq!(code(&cli(&app, &namespace, &["scale", "web"])), 2);
    assert_eq!(code(&cli(&app, &namespace, &["restart-pod", "nobody"])), 3);
    assert_eq!(code(&cli(&app, &namespace, &["scale", "web", "--replicas", "1000"])), 4);
    assert_eq!(code(&cli(&app, &namespace, &["restart-pod", "x", "--secret", "wrong"])), 6);
    namespace.break_deployment("web");
    let unhealthy = cli(&app, &namespace, &["scale", "web", "--replicas", "3", "--wait", "3s"]);
    assert_eq!(code(&unhealthy), 7, "{}", said(&unhealthy));
    cli(&app, &namespace, &["scale", "web", "--replicas", "1"]);
    let limited = cli(&app, &namespace, &["scale", "web", "--replicas", "2"]);
    assert_eq!(code(&limited), 1, "{}", said(&limited));
    assert!(said(&limited).contains("try again in"), "{}", said(&limited));
}
