//! `edict graph`, on a real server.

use crate::graphs::{GRAPH, URI};
use crate::support::{TestApp, edict};
use serde_json::{Value, json};
use std::path::Path;

/// Runs `edict graph …` in a folder; returns exit code, stdout and stderr.
fn graph(folder: &Path, app: &TestApp, arguments: &[&str]) -> (i32, String, String) {
    let done = edict(folder).arg("graph").args(arguments).args(["--url", &app.url()]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

fn done(folder: &Path, app: &TestApp, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = graph(folder, app, arguments);
    assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
    stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_from_a_file_to_a_picture_of_its_run() {
    let app = TestApp::start();
    app.deploy_diamond().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("graph.json"), GRAPH).unwrap();
    let plan = done(folder, &app, &["check", "graph.json"]);
    assert!(plan.contains("can be registered") && plan.contains("2      funcB funcC"), "{plan}");
    assert_eq!(done(folder, &app, &["push", "graph.json"]), format!("{URI}\n"));
    let (code, _, told) = graph(folder, &app, &["push", "graph.json"]);
    assert!(code == 4 && told.contains("--update"), "{told}");
    assert_eq!(done(folder, &app, &["push", "graph.json", "--update"]), format!("{URI}\n"));
    let listed: Value = serde_json::from_str(&done(folder, &app, &["list", "--output", "json"])).unwrap();
    assert_eq!((listed[0]["graph_uri"].as_str(), &listed[0]["revision"]), (Some(URI), &json!(2)));
    assert!(done(folder, &app, &["get", URI]).contains("OpenVision AI"));

    let drawing = done(folder, &app, &["show", URI]);
    assert!(drawing.contains("│ funcB │  │ funcC │"), "{drawing}");
    let input = r#"{"ip": "10.0.0.1"}"#;
    let output: Value = serde_json::from_str(&done(folder, &app, &["run", URI, "--input", input])).unwrap();
    assert_eq!(output["decision"], "allow");
    let traced = done(folder, &app, &["run", URI, "--input", input, "--trace"]);
    assert!(traced.lines().any(|line| line.starts_with("funcD  completed")), "{traced}");
    let arguments = ["run", URI, "--input", input, "--trace", "--output", "json", "--node-timeout", "10s"];
    let reply: Value = serde_json::from_str(&done(folder, &app, &arguments)).unwrap();
    let run = reply["run_id"].as_str().unwrap();
    assert_eq!(reply["trace"]["nodes"][3]["output"], reply["data"]);
    assert!(done(folder, &app, &["runs", "--limit", "1", "--sort=-started_at"]).contains(run));

    let drawing = done(folder, &app, &["show", URI, "--run", run]);
    assert!(drawing.contains(" ms ") && drawing.contains(&format!("run {run} completed in")), "{drawing}");
    assert_eq!(done(folder, &app, &["show", URI, "--run", run, "--svg", "run.svg"]), "wrote run.svg\n");
    let picture = std::fs::read_to_string(folder.join("run.svg")).unwrap();
    assert!(
        picture.starts_with("<svg ") && picture.contains(run) && picture.matches("class=\"bar ").count() == 4
    );
    done(folder, &app, &["delete", URI]);
    assert_eq!(graph(folder, &app, &["get", URI]).0, 3);
    assert_eq!(graph(folder, &app, &["run", URI, "--input", "{}"]).0, 3);
    assert_eq!(graph(folder, &app, &["show", "none:1-x"]).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told() {
    let app = TestApp::start();
    app.deploy_node("a", "return 1").await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let yaml = "graph_name: g\ngraph_version: \"1.0\"\ngraph_release_tag: t\ngraph_function_ids: [a]\n";
    std::fs::write(folder.join("good.yaml"), yaml).unwrap();
    std::fs::write(folder.join("loop.yaml"), format!("{yaml}graph_connection_data: {{a: [a]}}\n")).unwrap();
    std::fs::write(folder.join("bad.json"), "{").unwrap();
    let (code, _, told) = graph(folder, &app, &["check", "loop.yaml"]);
    assert!(code == 4 && told.contains("`a` gets its own output"), "{told}");
    assert_eq!(graph(folder, &app, &["push", "bad.json"]).0, 2);
    assert_eq!(graph(folder, &app, &["push", "nowhere.json"]).0, 1);
    done(folder, &app, &["push", "good.yaml"]);
    let (code, _, told) = graph(folder, &app, &["run", "g:1.0-t", "--input", "no json"]);
    assert!(code == 2 && told.contains("--input"), "{told}");
    assert_eq!(graph(folder, &app, &["run", "g:1.0-t", "--input", "1", "--run-timeout", "soon"]).0, 2);
    app.send("DELETE", "/function/deployments/remove/a", "").await;
    let (code, _, told) = graph(folder, &app, &["run", "g:1.0-t", "--input", "1"]);
    assert!(code == 1 && told.contains("node `a`") && told.contains("function_not_found"), "{told}");
    let (code, _, told) = graph(folder, &app, &["show", "g:1.0-t", "--run", "none"]);
    assert!(code == 3 && told.contains("run_not_found"), "{told}");
}
