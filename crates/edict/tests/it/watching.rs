//! What `deploy/` gives to Prometheus and Grafana: rules that hold, and a dashboard whose every query finds something.

use crate::support::{Prometheus, TestApp, http};
use edict_testbed::Namespace;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(deploy().join(file)).unwrap()
}

/// Every metric of ours that a text names.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("edict_")).collect()
}

/// The queries of the dashboard's panels, each with its panel's title.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets
                .map(move |target| (panel["title"].to_string(), target["expr"].as_str().unwrap().to_owned()))
        })
        .collect()
}

#[test]
fn the_alerts_are_set_off_by_what_they_are_for() {
    let Some(promtool) = Prometheus::promtool() else { return };
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let checked = Command::new(&promtool).args(arguments).current_dir(deploy()).output().unwrap();
        let said =
            [String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr)].concat();
        assert!(checked.status.success(), "{arguments:?}: {said}");
    }
}

/// Lets every kind of thing happen that a panel or an alert is about.
async fn busy(app: &TestApp, cluster: &Namespace) {
    let decide = async |action: &str| {
        let url = format!("{}/api/v1/policy/evaluate", app.listener("engine"));
        let request = json!({"action": action, "resource": "pod:a", "type": "self_healing",
            "context": {"role": "service"}});
        http().post(url).json(&request).send().await.unwrap().json::<Value>().await.unwrap()["allowed"]
            .clone()
    };
    assert_eq!((decide("restart_pod").await, decide("drain_node").await), (json!(true), json!(false)));
    // A deny that cannot be evaluated: the caller's address is none of its business here.
    let policy = json!({"name": "odd", "type": "self_healing", "effect": "deny", "actions": ["odd"],
        "resources": ["*"], "conditions": {"policyRuleUri": "not:registered-yet"}});
    let url = format!("{}/api/v1/policy", app.listener("engine"));
    assert!(http().post(url).json(&policy).send().await.unwrap().status().is_success());
    assert_eq!(decide("odd").await, json!(false));
    let act = async |replicas: Value| {
        let url = format!("{}/executor/execute", app.listener("actions"));
        let action = json!({"actionType": "scale_deployment", "requestedBy": "watcher",
            "actionParams": {"namespace": cluster.name(), "deploymentName": "web", "replicas": replicas}});
        http().post(url).json(&action).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let done = act(json!(2)).await;
    assert_eq!(done["success"], true, "{done}");
    assert_eq!(act(json!(-1)).await["success"], false);
    let uri = app.add("panel", "if input_data == 'fail': raise ValueError('no')\nreturn 1").await;
    assert_eq!((app.run(&uri, json!("work")).await.0, app.run(&uri, json!("fail")).await.0), (200, 502));
    app.deployed("local", "panel", &uri, json!({})).await;
    app.called("panel", json!("work")).await;
    let job = app.submit("local", json!({"name": "panel", "policy_rule_uri": uri, "inputs": "work"})).await;
    app.ended(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_rule_is_fed_by_a_real_scrape() {
    let Some(cluster) = Namespace::new() else { return };
    cluster.deployment("web", 1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("none.yaml"), "[]").unwrap();
    let app = TestApp::builder()
        .setting("kubeconfig", cluster.kubeconfig().display())
        .setting("allowed_namespaces", cluster.name())
        .setting("decisions_dir", folder.path().display())
        // Nobody listens there: what is to be told waits.
        .setting("notify_url", "http://127.0.0.1:9/hook")
        .start();
    busy(&app, &cluster).await;
    let Some(prometheus) = Prometheus::start(&app, &deploy().join("alerts.yaml")) else { return };
    prometheus.finds("up{job=\"edict\"} == 1").await;
    let (alerts, dashboard) = (read("alerts.yaml"), read("dashboard.json"));
    for metric in metrics(&alerts).union(&metrics(&dashboard)) {
        prometheus.finds(&format!("{{__name__=~\"{metric}(_count)?\"}}")).await;
    }
    for (panel, query) in queries(&serde_json::from_str(&dashboard).unwrap()) {
        let query = query.replace("$__rate_interval", "1m").replace("$namespace", ".*");
        assert!(!prometheus.finds(&query).await.is_empty(), "{panel} is empty: {query}");
    }
    let rules = prometheus.rules().await;
    assert_eq!(rules.len(), alerts.matches("- alert:").count());
    for rule in rules {
        assert_eq!((&rule["health"], &rule["lastError"]), (&json!("ok"), &Value::Null), "{rule}");
    }
}
