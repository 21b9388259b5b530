//! `edict job` as scripts use it.

use crate::cli::Cli;
use crate::sdk::python;
use crate::support::{TestApp, policy, policy_source};
use serde_json::{Value, json};

/// Prints, and then does what its input says.
const OBEDIENT: &str = r#"
import sys, time
print("began")
if "sleep" in input_data:
    time.sleep(input_data["sleep"])
if "fail" in input_data:
    raise LookupError(input_data["fail"])
print("ended", file=sys.stderr)
return {"parameters": parameters, "input": input_data}
"#;

/// A server with the policy, and the command line for it.
async fn start() -> (TestApp, Cli, String) {
    let app = TestApp::start();
    let uri = app.register_record(policy("obedient", &policy_source(OBEDIENT))).await;
    let cli = Cli::new(&app.url());
    (app, cli, uri)
}

fn submit(cli: &Cli, uri: &str, input: &Value) -> String {
    cli.done(&["job", "submit", "--policy", uri, "--input", &input.to_string()]).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_from_its_options_to_its_output() {
    let (_app, cli, uri) = start().await;
    let options =
        ["--parameters", r#"{"a": 1}"#, "--name", "mine", "--retries", "2", "--attempt-timeout", "90s"];
    let arguments =
        [&["job", "submit", "--policy", &uri, "--input", r#"{"ip": "10.0.0.1"}"#][..], &options].concat();
    let job = cli.json(&[&arguments[..], &["--wait"]].concat());
    assert_eq!(
        (&job["job_status"], &job["name"], &job["attempts"]),
        (&json!("completed"), &json!("mine"), &json!(1))
    );
    assert_eq!((&job["backoff_limit"], &job["timeout"]), (&json!(2), &json!(90.0)));
    assert_eq!(job["job_output_data"], json!({"parameters": {"a": 1}, "input": {"ip": "10.0.0.1"}}));
    let id = job["job_id"].as_str().unwrap();

    let printed = cli.done(&[&arguments[..], &["--wait", "--for", "60s"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), job["job_output_data"], "{printed}");
    let again = cli.done(&["job", "wait", id]);
    assert_eq!(again, printed, "waiting for a finished job prints what it gave");
    assert_eq!(cli.json(&["job", "get", id]), job);
    let shown = cli.done(&["job", "get", id]);
    assert!(
        shown.contains("job_status") && shown.contains("completed") && !shown.contains("error"),
        "{shown}"
    );

    let found = cli.json(&["job", "list", "--query", r#"{"inputs.ip": "10.0.0.1"}"#, "--limit", "5"]);
    assert_eq!(found.as_array().unwrap().len(), 2);
    let table = cli.done(&["job", "list"]);
    assert!(table.contains(id) && table.contains("STATUS") && table.contains("mine"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_come_from_files_in_json_and_yaml() {
    let (_app, cli, uri) = start().await;
    let request = format!(
        r#"{{"name": "of-file", "policy_rule_uri": "{uri}", "inputs": {{"amount": 12345678901234567890123}}}}"#
    );
    cli.write("job.json", &request);
    let text = cli.done(&["--output", "json", "job", "submit", "job.json", "--wait"]);
    assert!(text.contains("12345678901234567890123"), "numbers keep every digit: {text}");
    cli.write(
        "job.yaml",
        &format!("# nightly\npolicy_rule_uri: {uri}\ninputs: {{n: 1}}\nbackoff_limit: 1\n"),
    );
    let job = cli.json(&["job", "submit", "job.yaml", "--input", r#"{"n": 2}"#, "--name", "over", "--wait"]);
    assert_eq!(
        (&job["inputs"], &job["name"], &job["backoff_limit"]),
        (&json!({"n": 2}), &json!("over"), &json!(1))
    );

    cli.write("slip.yaml", "policy_rule_uri: a:1-b\ninputs: {}\nbackof_limit: 1\n");
    assert!(cli.fails(4, &["job", "submit", "slip.yaml"]).contains("backof_limit"));
    cli.write("broken.json", "{\"inputs\": ");
    assert!(cli.fails(2, &["job", "submit", "broken.json"]).contains("`broken.json`"));
    cli.write("list.yaml", "- a\n- b\n");
    assert!(cli.fails(2, &["job", "submit", "list.yaml"]).contains("`list.yaml`"));
    assert!(cli.fails(1, &["job", "submit", "missing.yaml"]).contains("`missing.yaml`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_has_the_exit_code_of_a_failing_policy() {
    let (_app, cli, uri) = start().await;
    let submit_failing = ["job", "submit", "--policy", &uri, "--input", r#"{"fail": "asked to"}"#];
    let told = cli.fails(1, &[&submit_failing[..], &["--wait", "--output", "json"]].concat());
    assert!(told.contains("LookupError") && told.contains("asked to"), "{told}");
    assert!(told.contains("code: policy_failed") && told.contains("function.py:"), "{told}");
    let id = submit(&cli, &uri, &json!({"fail": "again"}));
    assert!(cli.fails(1, &["job", "wait", &id]).contains(&format!("edict job logs {id}")));
    assert_eq!(cli.json(&["job", "get", &id])["job_status"], "failed");

    let slow =
        ["job", "submit", "--policy", &uri, "--input", r#"{"sleep": 60}"#, "--attempt-timeout", "300ms"];
    let told = cli.fails(1, &[&slow[..], &["--wait"]].concat());
    assert!(told.contains("code: policy_timeout"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_can_end_before_the_job_does() {
    let (_app, cli, uri) = start().await;
    let sleeping = ["job", "submit", "--policy", &uri, "--input", r#"{"sleep": 60}"#];
    let told = cli.fails(7, &[&sleeping[..], &["--wait", "--for", "200ms"]].concat());
    assert!(told.contains("is still") && told.contains("edict job wait "), "{told}");
    let id = cli.json(&["job", "list"])[0]["job_id"].as_str().unwrap().to_owned();
    cli.fails(7, &["job", "wait", &id, "--for", "0"]);
    assert_eq!(cli.done(&["job", "cancel", &id]).trim(), format!("cancelled {id}"));
    assert!(cli.fails(1, &["job", "wait", &id]).contains("cancelled"));
    assert!(cli.fails(4, &["job", "cancel", &id]).contains("code: job_finished"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_sees_how_a_job_gets_on() {
    let Some(python) = python() else { return };
    let (_app, cli, uri) = start().await;
    let arguments = ["job", "submit", "--policy", &uri, "--input", r#"{"sleep": 2}"#, "--wait"];
    let seen = cli.at_terminal(&python, &arguments);
    assert!(seen.contains("running") && seen.contains("\"sleep\": 2"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_shown_and_followed() {
    let (_app, cli, uri) = start().await;
    let id = submit(&cli, &uri, &json!({"sleep": 1}));
    let mut following = cli.command(&["job", "logs", &id, "--follow"]);
    let following = following.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let followed = following.wait_with_output().unwrap();
    assert!(followed.status.success());
    assert_eq!(cli.json(&["job", "get", &id])["job_status"], "completed", "it followed to the end");
    let text = String::from_utf8(followed.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].ends_with("info     stdout: began") && lines[1].ends_with("warning  stderr: ended"),
        "{text}"
    );
    assert_eq!(cli.done(&["job", "logs", &id]), text);
    let logs = cli.json(&["job", "logs", &id]);
    assert_eq!((logs.as_array().unwrap().len(), &logs[0]["message"]), (2, &json!("began")));
    let followed = cli.done(&["job", "logs", &id, "--follow", "--output", "json"]);
    let records: Vec<Value> = followed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(records), logs);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_was_wrong() {
    let (app, cli, uri) = start().await;
    for verb in ["get", "wait", "logs", "cancel"] {
        assert!(cli.fails(3, &["job", verb, "no-such-job"]).contains("code: job_not_found"), "{verb}");
    }
    cli.fails(3, &["job", "logs", "no-such-job", "--follow"]);
    let input = ["--input", "{}"];
    assert!(
        cli.fails(3, &[&["job", "submit", "--policy", "nowhere:1-x"][..], &input].concat())
            .contains("nowhere")
    );
    let submit = ["job", "submit", "--policy", &uri];
    cli.fails(3, &[&submit[..], &input, &["--executor", "nowhere"]].concat());
    let told = cli.fails(4, &[&submit[..], &input, &["--node-selector", "zone=moon"]].concat());
    assert!(
        told.contains("code: no_executor_fits") && told.contains("local") && told.contains("zone"),
        "{told}"
    );
    cli.fails(2, &[&submit[..], &["--input", "{not json"]].concat());
    cli.fails(2, &[&submit[..], &input, &["--parameters", "[1]"]].concat());
    cli.fails(2, &[&submit[..], &input, &["--attempt-timeout", "soon"]].concat());
    cli.fails(5, &[&submit[..], &input, &["--url", "http://127.0.0.1:9"]].concat());
    let strict = json!({"ip": {"type": "string", "required": true}});
    let mut record = policy("strict", &policy_source("return {}"));
    record["policy_input_schema"] = strict;
    let uri = app.register_record(record).await;
    let told = cli.fails(4, &["job", "submit", "--policy", &uri, "--input", "{}", "--wait"]);
    assert!(told.contains("`ip`") && told.contains("code: input_invalid"), "{told}");
    assert_eq!(cli.json(&["job", "list"]), json!([]), "none was accepted");
}
