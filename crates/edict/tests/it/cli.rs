//! The command line as its users and their scripts meet it.

use crate::sdk::python;
use crate::support::{EDICT, TestApp};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Runs `edict` in a folder of its own, without the developer's settings.
pub(crate) struct Cli {
    pub(crate) folder: TempDir,
    url: String,
}

impl Cli {
    pub(crate) fn new(url: &str) -> Self {
        Self { folder: TempDir::new().unwrap(), url: url.to_owned() }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(EDICT);
        command.args(arguments).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EDICT_"))
        {
            command.env_remove(name);
        }
        command.env("EDICT_URL", &self.url).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it printed; it must succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        assert!(!told.contains("error"), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The JSON that it printed; it must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.done(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// What it said; it must end with this exit code and print nothing for programs.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(!told.contains("panicked"), "{told}");
        told
    }

    /// What somebody at a terminal sees; it must succeed.
    pub(crate) fn at_terminal(&self, python: &str, arguments: &[&str]) -> String {
        const SPAWN: &str =
            "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        let edict = self.command(arguments);
        let mut command = Command::new(python);
        command.args(["-c", SPAWN, EDICT]).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, value) in edict.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.env("TERM", "xterm").output().unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {seen}{}", String::from_utf8_lossy(&output.stderr));
        seen
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }
}

#[test]
fn a_policy_from_an_empty_folder_to_its_removal() {
    let app = TestApp::start();
    let cli = Cli::new(&app.url());
    cli.done(&["policy", "init", "limit"]);
    for file in ["code/function.py", "policy.yaml", "test_policy.py", "README.md"] {
        assert!(cli.folder.path().join("limit").join(file).is_file(), "{file}");
    }
    cli.done(&["policy", "check", "limit"]);
    let record = cli.json(&["policy", "push", "limit"]);
    let uri = record["policy_rule_uri"].as_str().unwrap();
    assert!(uri.starts_with("limit:"), "{uri}");
    assert_eq!((&record["revision"], record["code_digest"].as_str().unwrap().len()), (&json!(1), 64));

    let listed = cli.json(&["policy", "list", "--query", r#"{"name": "limit"}"#]);
    assert_eq!(listed[0]["policy_rule_uri"], uri);
    assert!(cli.done(&["policy", "list"]).contains(uri));
    assert_eq!(cli.json(&["policy", "get", uri])["policy_rule_uri"], uri);
    assert!(cli.done(&["policy", "get", uri]).contains("policy_parameters"));

    let limit = record["policy_parameters"]["limit"].as_f64().unwrap();
    let run =
        |value: f64| cli.json(&["policy", "execute", uri, "--input", &json!({"value": value}).to_string()]);
    assert_eq!(run(limit + 1.0)["allowed"], false);
    let own = json!({"limit": limit + 2.0}).to_string();
    let input = json!({"value": limit + 1.0}).to_string();
    let logged = cli.json(&["policy", "execute", uri, "--input", &input, "--parameters", &own, "--logs"]);
    assert_eq!(logged["data"]["allowed"], true);
    assert!(logged["logs"][0]["message"].as_str().unwrap().starts_with("value"), "{logged}");
    let data = json!({"limit": limit + 5.0}).to_string();
    assert_eq!(cli.json(&["policy", "manage", uri, "set_limit", "--data", &data])["limit"], limit + 5.0);
    assert_eq!(run(limit + 1.0)["allowed"], true);
    let plain = cli.done(&["policy", "execute", uri, "--input", &input]);
    assert_eq!(serde_json::from_str::<Value>(&plain).unwrap()["allowed"], true, "{plain}");

    // Pushed again: refused, unless it is to be replaced.
    assert!(cli.fails(4, &["policy", "push", "limit"]).contains("--update"));
    let function = cli.folder.path().join("limit/code/function.py");
    fs::write(&function, fs::read_to_string(&function).unwrap().replace("value <= limit", "value >= limit"))
        .unwrap();
    assert_eq!(cli.json(&["policy", "push", "limit", "--update"])["revision"], 2);
    assert_eq!(run(limit + 10.0)["allowed"], true);

    cli.done(&["policy", "delete", uri]);
    cli.fails(3, &["policy", "get", uri]);
    let listed = cli.json(&["policy", "list", "--query", r#"{"tags": {"$ne": "allocator"}}"#]);
    assert_eq!(listed, json!([]));
}

#[test]
fn the_test_that_init_makes_passes() {
    let Some(python) = python() else { return };
    let cli = Cli::new("http://127.0.0.1:9");
    cli.done(&["policy", "init", "limit"]);
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/python/src");
    let mut command = Command::new(python);
    command.args(["-m", "pytest", "-q", "limit"]).env("PYTHONPATH", sdk).current_dir(cli.folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn exit_codes_tell_scripts_what_happened() {
    let app = TestApp::builder().setting("auth_tokens", "admin:admin-token-1,viewer:viewer-token-1").start();
    let cli = Cli::new(&app.url());
    fn admin<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--token", "admin-token-1"], arguments].concat()
    }
    let help = cli.done(&["--help"]);
    for code in [
        "0  done",
        "1  failed",
        "2  wrong usage",
        "3  not found",
        "4  refused",
        "5  the server",
        "6  not allowed",
        "7  still under way",
    ] {
        assert!(help.contains(code), "{help}");
    }
    cli.done(&["policy", "init", "p"]);
    let uri = cli.done(&admin(&["policy", "push", "p"])).trim().to_owned();
    let execute = |input: &str| cli.fails(4, &admin(&["policy", "execute", &uri, "--input", input]));
    assert!(execute(r#"{"value": "high"}"#).contains("/value"));
    // The policy's own exception.
    cli.write("p/code/function.py", "class AIOSv1PolicyRule:\n    def __init__(self, *_): pass\n    def eval(self, *_): raise LookupError('asked to')\n");
    cli.done(&admin(&["policy", "push", "p", "--update"]));
    let told = cli.fails(1, &admin(&["policy", "execute", &uri, "--input", r#"{"value": 1}"#]));
    assert!(told.contains("LookupError") && told.contains("function.py:3 in eval"), "{told}");
    // A folder with faults, found without a server.
    cli.write("p/code/function.py", "def eval(): pass\n");
    assert!(cli.fails(1, &["policy", "check", "p"]).contains("AIOSv1PolicyRule"));
    cli.fails(2, &["policy", "execute"]);
    cli.fails(2, &["polcy"]);
    cli.fails(2, &admin(&["policy", "execute", &uri, "--input", "{not json"]));
    cli.fails(3, &admin(&["policy", "get", "nowhere:1-x"]));
    cli.fails(3, &admin(&["policy", "delete", "nowhere:1-x"]));
    cli.fails(3, &admin(&["policy", "execute", "nowhere:1-x", "--input", "0"]));
    cli.fails(3, &admin(&["policy", "execute", &uri, "--input", r#"{"value": 1}"#, "--executor", "nowhere"]));
    assert!(
        cli.fails(4, &admin(&["policy", "list", "--query", r#"{"name": {"$nope": 1}}"#])).contains("$nope")
    );
    cli.fails(5, &["--url", "http://127.0.0.1:9", "policy", "list"]);
    assert!(cli.fails(6, &["policy", "list"]).contains("EDICT_TOKEN"));
    cli.fails(6, &["--token", "wrong-token-1", "policy", "list"]);
    cli.done(&["--token", "viewer-token-1", "policy", "list"]);
    cli.fails(6, &["--token", "viewer-token-1", "policy", "delete", &uri]);
    let mut by_variable = cli.command(&["policy", "list"]);
    assert!(by_variable.env("EDICT_TOKEN", "viewer-token-1").status().unwrap().success());
}

#[test]
fn a_policy_in_a_folder_runs_without_a_server() {
    let cli = Cli::new("http://127.0.0.1:9");
    cli.done(&["policy", "init", "limit"]);
    let result = cli.json(&["policy", "run", "limit", "--input", r#"{"value": 1}"#]);
    assert_eq!(result["allowed"], true);
    let told = cli.fails(4, &["policy", "run", "limit", "--input", r#"{"value": "one"}"#]);
    assert!(told.contains("/value"), "{told}");
}

#[test]
fn every_shell_gets_a_completion_script_that_it_can_read() {
    let cli = Cli::new("http://127.0.0.1:9");
    for shell in ["bash", "zsh", "fish"] {
        let script = cli.done(&["completions", shell]);
        assert!(script.contains("edict") && script.contains("push"), "{shell}");
        cli.write("script", &script);
        // Shells that this machine lacks cannot be asked.
        let checked = Command::new(shell).arg("-n").arg("script").current_dir(cli.folder.path()).status();
        assert!(checked.map_or(shell != "bash", |status| status.success()), "{shell} cannot read its script");
    }
    cli.fails(2, &["completions", "tcsh-or-so"]);
}

#[test]
fn the_doctor_finds_this_machine_fit() {
    let cli = Cli::new("http://127.0.0.1:9");
    let data = cli.folder.path().join("data");
    let data = data.to_str().unwrap();
    let findings = cli.json(&["doctor", "--data-dir", data]);
    let state = |what: &str| {
        let findings = findings.as_array().unwrap();
        findings.iter().find(|finding| finding["what"] == what).map(|finding| finding["state"].clone())
    };
    for what in ["protection", "database", "python", "uv"] {
        assert_eq!(state(what), Some(json!("ok")), "{what}: {findings}");
    }
    for what in ["namespaces", "landlock", "seccomp"] {
        assert!(state(what).is_some(), "{what}: {findings}");
    }
    let broken = cli.run(&["doctor", "--data-dir", data, "--python", "/nowhere/python3"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("bad"));
}

#[test]
fn executors_are_listed() {
    let app = TestApp::start();
    let _executor = TestApp::executor("e1", &app).start();
    let cli = Cli::new(&app.url());
    let listed = cli.json(&["executor", "list", "--sort", "executor_id"]);
    let ids: Vec<&str> =
        listed.as_array().unwrap().iter().map(|found| found["executor_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["e1", "local"]);
    let table = cli.done(&["executor", "list"]);
    assert!(table.contains("e1") && table.contains("healthy") && table.contains("VCPUS"), "{table}");
}

#[test]
fn assets_come_back_as_they_went() {
    let app = TestApp::start();
    let cli = Cli::new(&app.url());
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(cli.folder.path().join("data.bin"), &content).unwrap();
    let record = cli.json(&["asset", "upload", "data.bin", "--name", "data", "--labels", "a,b"]);
    assert_eq!(record["asset_uri"], "data:1.0-stable");
    assert_eq!(record["asset_file_info"]["size"], content.len());
    cli.done(&["asset", "download", "data:1.0-stable", "--to", "back.bin"]);
    assert_eq!(fs::read(cli.folder.path().join("back.bin")).unwrap(), content);
    let piped = cli.run(&["asset", "download", "data:1.0-stable", "--to", "-"]);
    assert_eq!(piped.stdout, content);
    assert!(cli.fails(1, &["asset", "download", "data:1.0-stable", "--to", "back.bin"]).contains("--force"));
    assert!(cli.fails(4, &["asset", "upload", "data.bin", "--name", "data"]).contains("exists"));
    assert_eq!(
        cli.json(&["asset", "list", "--query", r#"{"asset_tags": "b"}"#])[0]["asset_uri"],
        "data:1.0-stable"
    );
    cli.done(&["asset", "delete", "data:1.0-stable"]);
    cli.fails(3, &["asset", "get", "data:1.0-stable"]);
}
