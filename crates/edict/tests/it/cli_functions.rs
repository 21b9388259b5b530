//! `edict function` as operators and their scripts use it.

use crate::cli::Cli;
use crate::sdk::python;
use crate::support::{TestApp, policy};
use serde_json::{Value, json};

const COUNTER: &str = r#"
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.parameters = parameters
        self.rule_id = rule_id

    def eval(self, parameters, input_data, context):
        print("asked for", input_data)
        if input_data == "fail":
            raise LookupError("asked to")
        return {"limit": self.parameters.get("limit"), "rule": self.rule_id}

    def management(self, action, data):
        if action != "set_limit":
            raise ValueError(f"no command {action}")
        self.parameters["limit"] = data["limit"]
        return {"limit": self.parameters["limit"]}
"#;

const BROKEN: &str = "import no_such_module_anywhere\n\nclass AIOSv1PolicyRule:\n    def __init__(self, *_): pass\n\n    def eval(self, *_): pass\n";

/// A server with the policy, and the command line for it.
async fn start() -> (TestApp, Cli, String) {
    let app = TestApp::start();
    let uri = app.register_record(policy("counter", COUNTER)).await;
    let cli = Cli::new(&app.url());
    (app, cli, uri)
}

fn deploy<'a>(name: &'a str, uri: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["function", "deploy", "--name", name, "--policy", uri][..], options].concat()
}

fn call(cli: &Cli, name: &str) -> Value {
    cli.json(&["function", "call", name, "--input", "{}"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_from_its_deployment_to_its_removal() {
    let (app, cli, uri) = start().await;
    let options = ["--replicas", "2", "--parameters", r#"{"limit": 5}"#, "--wait"];
    let function = cli.json(&deploy("check", &uri, &options));
    let status = &function["function_status"];
    assert_eq!(
        (&status["state"], &status["ready"], &status["desired"]),
        (&json!("ready"), &json!(2), &json!(2))
    );
    assert_eq!(call(&cli, "check"), json!({"limit": 5, "rule": uri}));

    let managed = cli.json(&["function", "manage", "check", "set_limit", "--data", r#"{"limit": 7}"#]);
    assert_eq!(managed["data"], json!({"limit": 7}));
    let answers = managed["replicas"].as_array().unwrap();
    assert_eq!(answers.len(), 2, "both replicas answer: {managed}");
    assert!(answers.iter().all(|answer| answer["data"] == json!({"limit": 7})), "{managed}");
    assert_eq!(call(&cli, "check")["limit"], 7);
    let output = cli.run(&["function", "manage", "check", "set_limit", "--data", r#"{"limit": 8}"#]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), json!({"limit": 8}));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().filter(|line| line.ends_with(" answered")).count(), 2, "{told}");

    let scaled = cli.json(&["function", "scale", "check", "3", "--wait"]);
    assert_eq!(scaled["function_status"]["ready"], 3);
    assert_eq!(call(&cli, "check")["limit"], 8, "later replicas know what management changed");
    cli.done(&["function", "update", "check", "--parameters", r#"{"limit": 5}"#, "--wait"]);
    assert_eq!(call(&cli, "check")["limit"], 5, "the last writer wins, with the value of before, too");

    let mut next = policy("counter", &COUNTER.replace("self.rule_id}", "\"next\"}"));
    next["version"] = json!("2.0");
    let next = app.register_record(next).await;
    let updated = cli.json(&["function", "update", "check", "--policy", &next, "--replicas", "1", "--wait"]);
    assert_eq!((&updated["function_policy_rule_uri"], &updated["replicas"]), (&json!(next), &json!(1)));
    assert_eq!(call(&cli, "check")["rule"], "next");

    let listed = cli.json(&["function", "list", "--query", r#"{"function_id": "check"}"#]);
    assert_eq!(listed[0]["function_policy_rule_uri"], next);
    let table = cli.done(&["function", "list"]);
    assert!(table.contains("check") && table.contains("ready") && table.contains("WANTED"), "{table}");
    let shown = cli.done(&["function", "get", "check"]);
    assert!(shown.contains("function_status") && shown.contains(&next), "{shown}");
    let logs = cli.json(&["function", "logs", "check", "--limit", "1"]);
    assert_eq!((logs.as_array().unwrap().len(), &logs[0]["message"]), (1, &json!("asked for {}")), "{logs}");
    assert!(cli.done(&["function", "logs", "check"]).contains("stdout: asked for {}"));

    assert_eq!(cli.done(&["function", "remove", "check"]).trim(), "removed check");
    cli.fails(3, &["function", "get", "check"]);
    assert_eq!(cli.json(&["function", "list"]), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_cannot_start_fails_its_deployment() {
    let (app, cli, uri) = start().await;
    let broken = app.register_record(policy("broken", BROKEN)).await;
    let told = cli.fails(1, &deploy("lame", &broken, &["--wait"]));
    assert!(told.contains("no_such_module_anywhere") && told.contains("code: policy_load_failed"), "{told}");
    assert!(told.contains("0 of 1 replicas ready") && told.contains("edict function logs lame"), "{told}");
    let failed = cli.json(&["function", "get", "lame"]);
    assert_eq!(failed["function_status"]["error"]["code"], "policy_load_failed");
    cli.fails(1, &["function", "call", "lame", "--input", "{}"]);

    // An update to it fails, too, and the old replicas go on.
    cli.done(&deploy("sound", &uri, &["--wait"]));
    let told = cli.fails(1, &["function", "update", "sound", "--policy", &broken, "--for", "60s"]);
    assert!(told.contains("code: policy_load_failed"), "{told}");
    assert_eq!(call(&cli, "sound")["rule"], uri);
    cli.done(&["function", "update", "sound", "--policy", &uri, "--wait"]);

    // Nobody waits here: there is no terminal.
    assert_eq!(cli.done(&deploy("unseen", &broken, &[])).trim(), "unseen");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_can_end_before_the_rollout_does() {
    let (app, cli, _) = start().await;
    let slow = format!("import time\ntime.sleep(60)\n{COUNTER}");
    let mut record = policy("slow", &slow);
    record["execution_limits"] = json!({"timeout_ms": 120_000});
    let slow = app.register_record(record).await;
    let told = cli.fails(7, &deploy("slow", &slow, &["--for", "200ms"]));
    assert!(told.contains("0 of 1 replicas") && told.contains("edict function get slow"), "{told}");
    cli.done(&["function", "remove", "slow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_waits_and_sees_replicas_get_ready() {
    let Some(python) = python() else { return };
    let (app, cli, _) = start().await;
    let slow = format!("import time\ntime.sleep(2)\n{COUNTER}");
    let slow = app.register_record(policy("slow", &slow)).await;
    let seen = cli.at_terminal(&python, &deploy("slow", &slow, &["--replicas", "2"]));
    assert!(seen.contains("0/2 replicas ready"), "{seen}");
    assert_eq!(cli.json(&["function", "get", "slow"])["function_status"]["state"], "ready", "it has waited");
    let seen = cli.at_terminal(&python, &["function", "scale", "slow", "3", "--no-wait"]);
    assert_eq!(seen.trim(), "slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn autoscaling_is_set_changed_and_ended() {
    let (_app, cli, uri) = start().await;
    cli.write("fn.yaml", &format!("name: check\npolicy_rule_uri: {uri}\nautoscaling: {{max_replicas: 3}}\n"));
    let deployed = cli.json(&["function", "deploy", "fn.yaml", "--min", "1", "--target-cpu", "50", "--wait"]);
    let rule = &deployed["autoscaling"];
    assert_eq!((&rule["max_replicas"], &rule["target_cpu_utilization_percentage"]), (&json!(3), &json!(50)));
    assert_eq!(rule["enabled"], true);
    let updated = cli.json(&["function", "update", "check", "--max", "4"]);
    let rule = &updated["autoscaling"];
    assert_eq!((&rule["max_replicas"], &rule["target_cpu_utilization_percentage"]), (&json!(4), &json!(50)));
    let scaled = cli.run(&["function", "scale", "check", "2"]);
    assert!(scaled.status.success());
    assert!(String::from_utf8_lossy(&scaled.stderr).contains("--no-autoscaling"));
    let ended = cli.json(&["function", "update", "check", "--no-autoscaling", "--wait"]);
    assert_eq!((&ended["autoscaling"], &ended["function_status"]["ready"]), (&Value::Null, &json!(2)));

    for bounds in [["--min", "3", "--max", "2"], ["--target-cpu", "0", "--max", "2"]] {
        let told = cli.fails(4, &[&["function", "update", "check"][..], &bounds].concat());
        assert!(told.contains("code: invalid_autoscaling"), "{told}");
    }
    assert!(cli.fails(2, &["function", "update", "check", "--min", "2"]).contains("--max"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_was_wrong() {
    let (app, cli, uri) = start().await;
    let unknown: [&[&str]; 7] = [
        &["get", "nobody"],
        &["logs", "nobody"],
        &["remove", "nobody"],
        &["call", "nobody", "--input", "{}"],
        &["manage", "nobody", "set_limit"],
        &["update", "nobody", "--replicas", "2"],
        &["scale", "nobody", "2"],
    ];
    for arguments in unknown {
        let told = cli.fails(3, &[&["function"], arguments].concat());
        assert!(told.contains("code: function_not_found"), "{arguments:?}: {told}");
    }
    cli.fails(3, &deploy("f", "nowhere:1-x", &[]));
    cli.fails(3, &deploy("f", &uri, &["--executor", "nowhere"]));
    assert!(cli.fails(4, &deploy("a/b", &uri, &[])).contains("a/b"));
    assert!(cli.fails(4, &deploy("f", &uri, &["--replicas", "0"])).contains("replicas"));
    assert!(cli.fails(4, &deploy("f", &uri, &["--node-selector", "zone=moon"])).contains("zone"));
    cli.fails(2, &deploy("f", &uri, &["--parameters", "{not json"]));
    cli.fails(5, &deploy("f", &uri, &["--url", "http://127.0.0.1:9"]));

    let mut strict = policy("strict", COUNTER);
    strict["policy_input_schema"] = json!({"ip": {"type": "string", "required": true}});
    let strict = app.register_record(strict).await;
    cli.done(&deploy("f", &strict, &["--wait"]));
    assert!(cli.fails(4, &deploy("f", &uri, &[])).contains("code: function_exists"));
    assert!(cli.fails(4, &["function", "call", "f", "--input", "{}"]).contains("`ip`"));
    cli.fails(2, &["function", "call", "f", "--input", "{not json"]);
    cli.fails(2, &["function", "manage", "f", "set_limit", "--data", "[1]"]);
    cli.write("input.json", r#"{"ip": "10.0.0.1"}"#);
    assert_eq!(cli.json(&["function", "call", "f", "--input", "@input.json"])["limit"], Value::Null);
    cli.done(&deploy("g", &uri, &["--wait"]));
    let told = cli.fails(1, &["function", "call", "g", "--input", "\"fail\""]);
    assert!(told.contains("LookupError") && told.contains("code: policy_failed"), "{told}");
    let told = cli.fails(1, &["function", "manage", "g", "no_such_command"]);
    assert!(told.contains("no command no_such_command"), "{told}");
}
