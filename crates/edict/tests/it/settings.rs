//! Where settings come from.

use crate::support::{TestApp, edict, reply};
use serde_json::Value;
use std::fs;
use std::process::Output;
use tempfile::TempDir;

fn config(dir: &TempDir, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    edict(dir.path()).envs(environment.iter().copied()).arg("config").args(arguments).output().unwrap()
}

fn effective(dir: &TempDir, environment: &[(&str, &str)], arguments: &[&str]) -> Value {
    let output = config(dir, environment, &[arguments, &["--output", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn each_source_wins_over_the_ones_below() {
    let dir = TempDir::new().unwrap();
    assert_eq!(effective(&dir, &[], &[])["max_runs"], 32);
    fs::write(dir.path().join("edict.toml"), "max_runs = 1\nmax_warm = 2\nidle_seconds = 3\nrun_queue = 4\n")
        .unwrap();
    fs::write(dir.path().join(".env"), "EDICT_MAX_RUNS=10\nEDICT_MAX_WARM=20\nEDICT_IDLE_SECONDS=30\n")
        .unwrap();
    let got =
        effective(&dir, &[("EDICT_MAX_RUNS", "100"), ("EDICT_MAX_WARM", "200")], &["--max-runs", "1000"]);
    let shown = ["max_runs", "max_warm", "idle_seconds", "run_queue"].map(|name| got[name].as_i64().unwrap());
    assert_eq!(shown, [1000, 200, 30, 4], "flag, environment, .env, edict.toml");
}

#[test]
fn what_is_wrong_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("edict.toml");
    fs::write(&file, "max_rns = 1\n").unwrap();
    let error = refusal(&config(&dir, &[], &[]));
    assert!(error.contains("`max_rns`") && error.contains("did you mean `max_runs`?"), "{error}");
    fs::write(&file, "max_runs = \n").unwrap();
    assert!(refusal(&config(&dir, &[], &[])).contains("`edict.toml`"));
    fs::write(&file, "max_runs = \"many\"\n").unwrap();
    assert!(refusal(&config(&dir, &[], &[])).contains("`max_runs`"));
    fs::remove_file(&file).unwrap();
    for (name, value, named) in [
        ("EDICT_MAX_RUNS", "many", "`many`"),
        ("EDICT_MAX_RUNS", "0", "`max_runs`"),
        ("EDICT_DATABASE_URL", "mysql://secret-host/db", "`database_url`"),
        ("EDICT_AUTH_TOKENS", "admin:short", "`auth_tokens`"),
        ("EDICT_BIND", "everywhere", "`bind`"),
        ("EDICT_ASSETS_URL", "/a/folder", "`assets_url`"),
        ("EDICT_CONFIG", "nowhere.toml", "`nowhere.toml`"),
        ("RATE_LIMIT_RESTART_MAX", "many", "`rate_limit_restart_max`"),
        ("REQUIRE_ACTION_SIGNATURE", "true", "JWT_SECRET"),
        ("REQUIRE_FRESH_SIGNATURE", "true", "JWT_SECRET"),
        ("POLICY_ENGINE_URL", "engine:3000", "`policy_engine_url`"),
        ("EDICT_NOTIFY_URL", "ftp://short", "`notify_url`"),
    ] {
        let error = refusal(&config(&dir, &[(name, value)], &[]));
        assert!(error.contains(named), "{name}={value}: {error}");
        assert!(!error.contains("secret-host") && !error.contains("short"), "{error}");
    }
    let error = refusal(&config(&dir, &[], &["--max-rns", "1"]));
    assert!(error.contains("--max-runs"), "{error}");
}

#[test]
fn what_is_printed_hides_secrets_and_can_be_used_again() {
    let dir = TempDir::new().unwrap();
    let secrets = [
        ("EDICT_AUTH_TOKENS", "admin:open-sesame-now"),
        ("EDICT_DATABASE_URL", "postgres://u:sesame@127.0.0.1/d"),
        ("EDICT_S3_SECRET_ACCESS_KEY", "sesame"),
        ("EDICT_SERVER_TOKEN", "sesame"),
        ("JWT_SECRET", "sesame"),
        ("EDICT_NOTIFY_URL", "https://hooks.example/sesame"),
        ("EDICT_INDEX_URL", "https://u:sesame@index.example/simple"),
    ];
    for arguments in [&[][..], &["--output", "json"]] {
        let printed = String::from_utf8(config(&dir, &secrets, arguments).stdout).unwrap();
        assert!(printed.contains("***") && !printed.contains("sesame"), "{printed}");
    }
    let printed = config(&dir, &[("EDICT_MAX_RUNS", "7")], &[]).stdout;
    let text = String::from_utf8(printed.clone()).unwrap();
    assert!(text.contains("max_runs = 7  # from environment"), "{text}");
    fs::write(dir.path().join("edict.toml"), printed).unwrap();
    assert_eq!(effective(&dir, &[], &[])["max_runs"], 7);
}

/// The settings reach the server: here the body limit and the links in replies.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_obeys() {
    let app = TestApp::builder()
        .env("EDICT_MAX_BODY_MB", "1")
        .setting("public_url", "https://edict.example/")
        .start();
    let large = serde_json::json!({"a": "x".repeat(2 << 20)});
    assert_eq!(app.json("POST", "/policy", &large).await.0, 413);
    let metadata = r#"{"asset_name": "a", "asset_version": {"version": "1", "tag": "x"}}"#;
    let file = reqwest::multipart::Part::bytes(vec![1]).file_name("f");
    let form = reqwest::multipart::Form::new().part("asset", file).text("asset_metadata", metadata);
    let made = reply(app.request("POST", "/upload_asset").multipart(form)).await.json;
    assert!(
        made["data"]["asset_public_url"].as_str().unwrap().starts_with("https://edict.example/asset-object/")
    );
}
