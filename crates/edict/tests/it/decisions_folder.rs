//! Decision policies from a watched folder.

use crate::support::{Database, TestApp, ask, decision_policy, edict, refusal, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;

/// A folder with `policies.yaml` that allows to role `dev`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(&folder.path().join("policies.yaml"), &allow("dev"));
    folder
}

fn allow(role: &str) -> String {
    format!(
        "# what {role} may do\n- name: may\n  type: t\n  effect: allow\n  actions: [a]\n  resources: [r]\n  \
         conditions:\n    role: {role}\n"
    )
}

/// Writes as tools do that replace a file.
fn write(path: &Path, text: &str) {
    let partial = path.with_extension("partial");
    fs::write(&partial, text).unwrap();
    fs::rename(partial, path).unwrap();
}

fn serve(folder: &Path) -> TestApp {
    TestApp::builder().setting("decisions_dir", folder.display()).start()
}

/// Asks until the role is allowed, or not.
async fn until(app: &TestApp, role: &str, allowed: bool) {
    let wait = async {
        while app.decide(&ask(json!({"role": role}))).await["allowed"] != allowed {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(crate::support::PATIENCE, wait).await;
    assert!(
        waited.is_ok(),
        "`{role}` is never {}:\n{}",
        if allowed { "allowed" } else { "denied" },
        app.log()
    );
}

/// Waits until the folder's state is good or not; returns it.
async fn state(app: &TestApp, ok: bool) -> Value {
    let wait = async {
        loop {
            let (status, state) = app.engine_get("/folder").await;
            assert_eq!(status, 200, "{state}");
            if state["ok"] == ok {
                return state;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, wait).await.unwrap()
}

/// What a server says that does not start.
fn refusal_to_start(folder: &Path, database: &Database) -> String {
    let data = TempDir::new().unwrap();
    let mut command = edict(data.path());
    command.args(["serve", "--system-port", "0", "--engine-port", "0", "--actions-port", "0", "--data-dir"]);
    command.arg(data.path().join("data")).arg("--decisions-dir").arg(folder);
    if let Some(url) = database.url() {
        command.args(["--database-url", &url]);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = wait_for(|| child.try_wait().unwrap());
    child.kill().ok();
    let output = child.wait_with_output().unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "it must not start");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_file_is_read_and_leftovers_are_not() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let one = |name: &str| format!("name: {name}\ntype: t\neffect: allow\nactions: [a]\nresources: [r]\n");
    fs::create_dir_all(place("team/deep")).unwrap();
    fs::create_dir(place(".git")).unwrap();
    fs::write(place("single.yaml"), one("single")).unwrap();
    fs::write(place("documents.yml"), format!("{}---\n{}", one("first"), one("second"))).unwrap();
    fs::write(
        place("team/deep/list.json"),
        json!([decision_policy("listed", "allow", json!({}))]).to_string(),
    )
    .unwrap();
    let wrapped =
        json!({"policies": [decision_policy("wrapped", "deny", json!({"conditions": {"role": "x"}}))]});
    fs::write(
        place("team/wrapped.json"),
        serde_json::to_string_pretty(&wrapped).unwrap().replace("  ", "\t"),
    )
    .unwrap();
    fs::write(place("none.yaml"), "# nothing yet\n[]\n").unwrap();
    for leftover in [
        ".hidden.yaml",
        "policies.yaml~",
        ".policies.yaml.swp",
        "#policies.yaml#",
        "README.md",
        ".git/x.yaml",
        "old.yaml.bak",
    ] {
        fs::write(place(leftover), "not: [a policy").unwrap();
    }
    let app = serve(folder.path());
    let (_, listed) = app.engine_get("?source=folder").await;
    let found: Vec<(&str, &str)> = listed["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| (policy["name"].as_str().unwrap(), policy["file"].as_str().unwrap()))
        .collect();
    let expected = [
        ("first", "documents.yml"),
        ("listed", "team/deep/list.json"),
        ("second", "documents.yml"),
        ("single", "single.yaml"),
        ("wrapped", "team/wrapped.json"),
    ];
    assert_eq!(found, expected);
    let (_, state) = app.engine_get("/folder").await;
    assert_eq!(
        (&state["watched"], &state["ok"], &state["policies"]),
        (&json!(true), &json!(true), &json!(5))
    );
    assert_eq!(
        app.decide(&ask(json!({}))).await["appliedPolicies"],
        json!(["first", "listed", "second", "single"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_the_folder_are_read_only_and_listed_after_the_others() {
    let folder = folder();
    let app = serve(folder.path());
    let (status, filed) = app.engine_get("/may").await;
    assert_eq!(
        (status, &filed["id"], &filed["source"], &filed["file"]),
        (200, &json!("may"), &json!("folder"), &json!("policies.yaml"))
    );
    assert_eq!(
        refusal(&app.engine("PATCH", "/may", &json!({"priority": 1})).await),
        (409, "decision_policy_read_only")
    );
    assert_eq!(
        refusal(&app.engine("DELETE", "/may", &Value::Null).await),
        (409, "decision_policy_read_only")
    );
    let taken = app.engine("POST", "", &decision_policy("may", "deny", json!({}))).await;
    assert_eq!(refusal(&taken), (409, "decision_policy_exists"));
    assert!(taken.1["message"].as_str().unwrap().contains("`policies.yaml`"), "{}", taken.1);
    let taken = app
        .engine(
            "POST",
            "/import?replace=true",
            &json!({"policies": [decision_policy("may", "deny", json!({}))]}),
        )
        .await;
    assert_eq!(refusal(&taken), (409, "decision_policy_exists"));
    let (starter, own) = ("self-healing-restart-pod", "self-healing-scale-deployment");
    assert_eq!(app.engine("PATCH", &format!("/{starter}"), &json!({"name": "may"})).await.0, 409);
    assert_eq!(app.decision_names().await, [starter, own, "may"]);
    for (skip, expected) in [(0, vec![starter, own]), (1, vec![own, "may"]), (2, vec!["may"]), (3, vec![])] {
        let (_, found) = app.engine_get(&format!("?limit=2&skip={skip}")).await;
        let names: Vec<&str> = found["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|policy| policy["name"].as_str().unwrap())
            .collect();
        assert_eq!((names, found["hasMore"].as_bool().unwrap()), (expected, skip == 0), "{skip}");
    }
    let (_, found) = app.engine("POST", "/query?fields=file", &json!({"conditions.role": "dev"})).await;
    assert_eq!(found, json!({"policies": [{"file": "policies.yaml"}], "hasMore": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_followed_and_a_bad_file_keeps_the_last_good_state() {
    for database in Database::each() {
        let folder = folder();
        let file = folder.path().join("policies.yaml");
        let app =
            TestApp::builder().database(database).setting("decisions_dir", folder.path().display()).start();
        until(&app, "dev", true).await;
        write(&file, &allow("ops"));
        until(&app, "ops", true).await;
        until(&app, "dev", false).await;
        // Added beside it: a bad file. What the others say stays, and nothing of it is taken over.
        fs::create_dir(folder.path().join("team")).unwrap();
        write(
            &folder.path().join("team/bad.yaml"),
            &allow("sec").replace("may", "sec").replace("role: sec", "ipRange: nowhere"),
        );
        write(&file, &allow("qa"));
        let bad = state(&app, false).await;
        let error = bad["error"].as_str().unwrap();
        assert!(error.starts_with("`team/bad.yaml`, line 8: `conditions.ipRange` is `nowhere`"), "{error}");
        assert!(app.log().contains("its last good state stays in force"));
        let metrics = crate::support::reply(app.engine_request("GET", "/metrics")).await.bytes;
        assert!(String::from_utf8(metrics).unwrap().contains("edict_decisions_folder_ok 0"));
        until(&app, "ops", true).await;
        until(&app, "qa", false).await;
        for broken in
            ["- name: [", "a: b", "- name: x\n  type: t\n  efect: deny\n", "", "{policies: [], x: 1}", "7"]
        {
            write(&folder.path().join("team/bad.yaml"), broken);
            state(&app, false).await;
        }
        fs::remove_file(folder.path().join("team/bad.yaml")).unwrap();
        state(&app, true).await;
        until(&app, "qa", true).await;
        until(&app, "ops", false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_goes_away_keeps_its_last_good_state() {
    let parent = folder();
    let dir = parent.path().join("live");
    fs::create_dir(&dir).unwrap();
    write(&dir.join("policies.yaml"), &allow("dev"));
    let app = serve(&dir);
    let away = parent.path().join("away");
    fs::rename(&dir, &away).unwrap();
    let gone = state(&app, false).await;
    assert!(gone["error"].as_str().unwrap().contains("cannot be read"), "{gone}");
    until(&app, "dev", true).await;
    // Mounted empty looks like that, too.
    fs::create_dir(&dir).unwrap();
    let wait =
        async { while !state(&app, false).await["error"].as_str().unwrap().contains("no file with") {} };
    tokio::time::timeout(crate::support::PATIENCE, wait).await.unwrap();
    until(&app, "dev", true).await;
    write(&dir.join("none.yaml"), "[]\n");
    until(&app, "dev", false).await;
    assert_eq!(state(&app, true).await["policies"], 0);
}

/// The way in which Kubernetes mounts a ConfigMap: files are links into a folder that is reached by a link, which is
/// replaced at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_config_map_is_followed() {
    let mount = TempDir::new().unwrap();
    let state_of = |name: &str, role: &str| {
        fs::create_dir(mount.path().join(name)).unwrap();
        fs::write(mount.path().join(name).join("policies.yaml"), allow(role)).unwrap();
    };
    state_of("..2026_1", "dev");
    symlink("..2026_1", mount.path().join("..data")).unwrap();
    symlink("..data/policies.yaml", mount.path().join("policies.yaml")).unwrap();
    let app = serve(mount.path());
    until(&app, "dev", true).await;
    state_of("..2026_2", "ops");
    symlink("..2026_2", mount.path().join("..data_tmp")).unwrap();
    fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    fs::remove_dir_all(mount.path().join("..2026_1")).unwrap();
    until(&app, "ops", true).await;
    until(&app, "dev", false).await;
    assert_eq!(state(&app, true).await["policies"], 1);
}

#[test]
fn a_bad_folder_at_the_start_is_told_with_file_line_and_field() {
    let start = |files: &[(&str, &str)]| {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        refusal_to_start(folder.path(), &Database::sqlite())
    };
    let good = allow("dev");
    for (files, said) in [
        (vec![("a.yaml", "- name: x\n  type: [\n")], "setting `decisions_dir`: `a.yaml`, line 2: "),
        (
            vec![
                ("a.yaml", good.as_str()),
                ("b.yaml", "\n- name: x\n  type: t\n  efect: deny\n  actions: [a]\n  resources: [r]\n"),
            ],
            "`b.yaml`, line 4: `efect` is not a field of a policy; did you mean `effect`?",
        ),
        (
            vec![(
                "a.yaml",
                "- name: x\n  type: t\n  effect: deny\n  actions: [a]\n  resources: [r]\n  conditions:\n    timeRange: {start: dusk}\n",
            )],
            "`a.yaml`, line 7: `conditions.timeRange.start` is `dusk`",
        ),
        (
            vec![("a.yaml", good.as_str()), ("b.yaml", good.as_str())],
            "`b.yaml`, line 2: `name` is `may`, like that in `a.yaml`, line 2",
        ),
        (vec![("a.json", "{\"name\": \"x\",}")], "`a.json`, line 1: "),
        (vec![("a.yaml", "- name: x\n  name: y\n")], "`a.yaml`, line 2: "),
        (vec![("a.yaml", "x: 1\npolicies: []\n")], "`x` stands beside `policies`"),
        (vec![("a.yaml", "# nothing\n")], "`a.yaml`, line 1: the file is empty"),
        (vec![], "it holds no file with decision policies"),
    ] {
        let log = start(&files);
        assert!(log.contains(said), "{said}\n{log}");
    }
    let log = refusal_to_start(Path::new("/nowhere/at/all"), &Database::sqlite());
    assert!(log.contains("setting `decisions_dir`: it cannot be read: "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_the_folder_and_the_database_must_differ() {
    let folder = folder();
    write(&folder.path().join("starter.yaml"), &allow("x").replace("may", "self-healing-restart-pod"));
    let Some(database) = Database::postgres() else { return };
    let app = TestApp::builder()
        .database(database.clone())
        .setting("decisions_dir", folder.path().display())
        .start();
    let names = app.decision_names().await;
    assert_eq!(
        names,
        ["self-healing-scale-deployment", "may", "self-healing-restart-pod"],
        "the folder's came first"
    );
    app.add_decision(decision_policy("stored", "deny", json!({"conditions": {"role": "guest"}}))).await;
    write(&folder.path().join("more.yaml"), &allow("sec").replace("may", "stored"));
    let bad = state(&app, false).await;
    let error = bad["error"].as_str().unwrap();
    assert!(
        error.starts_with(
            "`more.yaml`, line 2: `name` is `stored`, which a decision policy in the database has"
        ),
        "{error}"
    );
    until(&app, "sec", false).await;
    assert_eq!(app.engine("DELETE", "/stored", &Value::Null).await.0, 200);
    state(&app, true).await;
    until(&app, "sec", true).await;
    // A server without the folder knows nothing of its names: then both are in force.
    let other = TestApp::builder().database(database.clone()).start();
    other.add_decision(decision_policy("may", "deny", json!({"conditions": {"role": "dev"}}))).await;
    until(&app, "dev", false).await;
    let decision = app.decide(&ask(json!({"role": "dev"}))).await;
    assert_eq!(decision["appliedPolicies"], json!(["may", "may (policies.yaml)"]));
    assert!(state(&app, false).await["error"].as_str().unwrap().contains("`name` is `may`"));
    drop(app);
    assert!(refusal_to_start(folder.path(), &database).contains("`policies.yaml`, line 2: `name` is `may`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_file_among_ten_thousand_policies_is_found() {
    let folder = TempDir::new().unwrap();
    let file = |number: usize| -> PathBuf { folder.path().join(format!("team-{number:03}.yaml")) };
    let team = |number: usize| -> String {
        let policy = |at: usize| {
            format!(
                "- name: t{number}-{at}\n  type: t\n  effect: allow\n  actions: [a]\n  resources: [\"r{number}-{at}\"]\n  \
                 conditions: {{metadata: {{severity: {{$in: [high, critical]}}}}}}\n"
            )
        };
        (0..100).map(policy).collect()
    };
    for number in 0..100 {
        fs::write(file(number), team(number)).unwrap();
    }
    let app = serve(folder.path());
    assert_eq!(app.engine_get("/folder").await.1["policies"], 10_000);
    let request = |resource: &str| {
        json!({
            "action": "a", "resource": resource, "type": "t", "context": {"metadata": {"severity": "high"}},
        })
    };
    assert_eq!(app.decide(&request("r42-7")).await["allowed"], true);
    write(
        &file(42),
        &team(42)
            .replace("name: t42-7\n  type: t\n  effect: allow", "name: t42-7\n  type: t\n  effect: alow"),
    );
    let bad = state(&app, false).await;
    assert_eq!(bad["error"], "`team-042.yaml`, line 45: `effect` is `alow`; it takes `allow` or `deny`");
    assert_eq!(app.decide(&request("r42-7")).await["allowed"], true, "the last good state");
    write(
        &file(42),
        &team(42)
            .replace("name: t42-7\n  type: t\n  effect: allow", "name: t42-7\n  type: t\n  effect: deny"),
    );
    state(&app, true).await;
    assert_eq!(app.decide(&request("r42-7")).await["allowed"], false);
    assert_eq!(app.decide(&request("r99-99")).await["allowed"], true);
}
