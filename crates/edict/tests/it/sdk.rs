//! The Python SDK and the sample policy's own tests, against a real server.

use crate::support::TestApp;
use std::path::Path;
use std::process::Command;

/// The interpreter with pytest; None, with a line that says so, where there is none. With `CI` set that fails.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("EDICT_TEST_PYTHON").ok();
    if python.is_none() {
        assert!(std::env::var_os("CI").is_none(), "EDICT_TEST_PYTHON is not set: use `cargo xtask test`");
        eprintln!("skipped: EDICT_TEST_PYTHON is not set");
    }
    python
}

/// A pytest of this repository, without what Python leaves beside sources.
fn pytest(python: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut command = Command::new(python);
    command.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    command
        .env("PYTHONPATH", root.join("sdk/python/src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root);
    command
}

fn passes(mut command: Command, app: &TestApp) {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}\n{}", String::from_utf8_lossy(&output.stderr), app.log());
    assert!(told.contains(" passed") && !told.contains("EDICT_TEST_URL is not set"), "{told}");
}

#[test]
fn the_sdk_works_with_the_server() {
    let Some(python) = python() else { return };
    let app = TestApp::start();
    let mut command = pytest(&python);
    command.args([
        "-c",
        "sdk/python/pyproject.toml",
        "--rootdir",
        ".",
        "sdk/python",
        "policies/ip_allowlist",
    ]);
    command.env("EDICT_TEST_URL", app.url()).env_remove("EDICT_TEST_TOKEN");
    passes(command, &app);
}

#[test]
fn the_sdk_presents_its_token() {
    let Some(python) = python() else { return };
    let app = TestApp::builder().setting("auth_tokens", "admin:sdk-admin-token").start();
    let mut command = pytest(&python);
    command.args(["-c", "sdk/python/pyproject.toml", "--rootdir", ".", "sdk/python/tests/test_server.py"]);
    command.env("EDICT_TEST_URL", app.url()).env("EDICT_TEST_TOKEN", "sdk-admin-token");
    passes(command, &app);
}

/// The documented snippets, word for word, with the server where they expect it by name only.
#[test]
fn the_documented_snippets_work_as_they_stand() {
    const LOCAL: &str = r#"
from aios_policy_sandbox import LocalPolicyEvaluator

settings={} # override the settings if needed
parameters={} # override the parameters if needed

policy_rule_uri="ip_allowlist:1.0-beta"

executor = LocalPolicyEvaluator(
    policy_rule_uri=policy_rule_uri,
    parameters=parameters,
    settings=settings,
    mode="local"
)

output = executor.execute_policy_rule({
   "ip": "192.168.0.109"
})

print(output)
"#;
    const REMOTE: &str = r#"
from aios_policy_sandbox import LocalPolicyEvaluator

settings={} # override the settings if needed
parameters={} # override the parameters if needed

policy_rule_uri="ip_allowlist:1.0-beta"

executor = LocalPolicyEvaluator(
    policy_rule_uri=policy_rule_uri,
    parameters=parameters,
    settings=settings,
    mode="remote",
    executor_id="executor-123"
)

output = executor.execute_policy_rule({
   "ip": "192.168.0.109"
})

print(output)

output = executor.execute_mgmt_command("update_local_allowlist", {
   "ips": ["192.168.0.100", "192.168.0.102"]
})

print(output)
"#;
    let Some(python) = python() else { return };
    let app = TestApp::start();
    let _executor = TestApp::executor("executor-123", &app).start();
    let pushed = Command::new(crate::support::EDICT)
        .args(["--url", &app.url(), "policy", "push", crate::support::SAMPLE])
        .output()
        .unwrap();
    assert!(pushed.status.success());
    let cache = tempfile::TempDir::new().unwrap();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/python/src");
    let run = |snippet: &str| {
        let mut command = Command::new(&python);
        command.args(["-B", "-c", snippet]).env("POLICY_DB_URL", app.url()).env("PYTHONPATH", &sdk);
        let output = command.env("EDICT_CACHE_DIR", cache.path()).env_remove("EDICT_TOKEN").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let denied = "{'allowed': False, 'reason': 'denied', 'input_data': {'ip': '192.168.0.109'}}\n";
    assert_eq!(run(LOCAL), denied);
    let updated = "{'status': 'success', 'updated_allowlist': ['192.168.0.100', '192.168.0.102']}\n";
    assert_eq!(run(REMOTE), format!("{denied}{updated}"));
}
