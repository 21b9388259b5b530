//! The verbs that talk to a server, against one that gives prepared answers.

use super::super::failure::{Exit, Failure};
use super::super::policy::{register, upload};
use super::super::{Cli, run};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clap::Parser;
use edict_client::Client;
use edict_client::records::{Object, Policy};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

type Answers = HashMap<&'static str, (u16, Value)>;

/// Answers each `METHOD /path` as prepared, and remembers what it was asked.
#[derive(Clone)]
struct Server {
    url: String,
    answers: Arc<Answers>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: impl IntoIterator<Item = (&'static str, u16, Value)>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers = answers.into_iter().map(|(line, status, reply)| (line, (status, reply))).collect();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            answers: Arc::new(answers),
            seen: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    fn client(&self) -> Client {
        Client::new(&self.url, None).unwrap()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Runs `edict …` against this server and returns what it printed.
    async fn edict(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut stdout = Vec::new();
        let done = self.edict_into(arguments, &mut stdout).await;
        done.map(|()| String::from_utf8(stdout).unwrap())
    }

    async fn edict_into(&self, arguments: &[&str], stdout: &mut dyn Write) -> Result<(), Failure> {
        let arguments = [&["edict", "--url", &self.url][..], arguments].concat();
        run(Cli::try_parse_from(arguments).unwrap(), stdout).await
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let line = format!("{} {path}", request.method());
    let target = format!("{} {}", request.method(), request.uri());
    axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    server.seen.lock().unwrap().push(target);
    match server.answers.get(line.as_str()) {
        Some((status, Value::String(content))) => {
            (StatusCode::from_u16(*status).unwrap(), content.clone()).into_response()
        }
        Some((status, reply)) => (StatusCode::from_u16(*status).unwrap(), axum::Json(reply)).into_response(),
        None => (StatusCode::NOT_FOUND, axum::Json(refusal("not_found", "nothing is here"))).into_response(),
    }
}

fn data(value: Value) -> Value {
    json!({"success": true, "data": value})
}

fn refusal(code: &str, message: &str) -> Value {
    json!({"success": false, "message": message, "error": {"code": code}})
}

fn policy() -> Value {
    json!({"policy_rule_uri": "a:1-b", "name": "a", "version": "1", "release_tag": "b", "code": "x",
           "tags": "net,\u{1b}[31mip", "description": "first line\nsecond line", "revision": 2})
}

fn asset(sha256: &str) -> Value {
    json!({"asset_uri": "f:1.0-stable", "asset_id": "id-1", "asset_name": "f",
           "asset_version": {"version": "1.0", "tag": "stable"}, "asset_public_url": "http://h/asset-object/id-1",
           "asset_file_info": {"size": 7, "sha256": sha256, "content_type": "t", "file_name": "../../f.bin"}})
}

fn sha256(content: &str) -> String {
    hex::encode(Sha256::digest(content))
}

#[tokio::test]
async fn lists_as_a_table_that_cannot_steer_the_terminal() {
    let reply = json!({"success": true, "data": [policy()], "has_more": true});
    let server = Server::start([("POST /policy/query", 200, reply)]).await;
    let printed = server.edict(&["policy", "list", "--limit", "1", "--sort=-name"]).await.unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(words, ["URI", "TAGS", "DESCRIPTION", "REVISION", "UPDATED"]);
    assert!(lines[1].starts_with("a:1-b ") && lines[1].contains("net,\\u{1b}[31mip"), "{printed}");
    assert!(lines[1].contains("first line") && !printed.contains("second line"), "{printed}");
    assert_eq!(lines.len(), 2);
    let fields = "policy_rule_uri%2Ctags%2Cdescription%2Crevision%2Cupdated_at";
    assert_eq!(server.seen(), [format!("POST /policy/query?limit=1&sort=-name&fields={fields}")]);
}

#[tokio::test]
async fn lists_whole_records_as_json() {
    let server = Server::start([("POST /policy/query", 200, data(json!([policy()])))]).await;
    let printed = server.edict(&["policy", "list", "--output", "json"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), json!([policy()]));
    assert_eq!(server.seen(), ["POST /policy/query"]);
}

#[tokio::test]
async fn lists_executors_with_what_they_have() {
    let record = json!({"executor_id": "e1", "executor_status": "healthy", "executor_hardware_info":
        {"vcpus": {"count": 24}, "memory": 64010}});
    let server = Server::start([("POST /executor/query", 200, data(json!([record])))]).await;
    let printed = server.edict(&["executor", "list"]).await.unwrap();
    let words: Vec<&str> = printed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["e1", "healthy", "24", "64010"]);
}

#[tokio::test]
async fn shows_and_deletes_a_policy() {
    let server = Server::start([
        ("GET /policy/a:1-b", 200, data(policy())),
        ("DELETE /policy/a:1-b", 200, data(json!(null))),
    ])
    .await;
    let printed = server.edict(&["policy", "get", "a:1-b"]).await.unwrap();
    assert!(printed.starts_with("policy_rule_uri  a:1-b\n"), "{printed}");
    assert!(printed.contains("second line") && !printed.contains('\u{1b}'), "{printed}");
    let printed = server.edict(&["policy", "get", "a:1-b", "--output", "json"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["revision"], 2);
    assert_eq!(server.edict(&["policy", "delete", "a:1-b"]).await.unwrap(), "deleted a:1-b\n");
}

#[tokio::test]
async fn what_is_not_there_has_its_exit_code() {
    let server = Server::start([]).await;
    let failure = server.edict(&["policy", "get", "a:1-b"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
    assert!(failure.text().contains("code: not_found"), "{}", failure.text());
}

#[tokio::test]
async fn a_run_prints_its_result_and_json_holds_the_logs() {
    let log = json!({"time": "t", "level": "info", "source": "stdout", "message": "hi"});
    let reply = json!({"success": true, "data": {"allowed": true}, "logs": [log]});
    let server = Server::start([("POST /executor/e1/execute_policy", 200, reply)]).await;
    let arguments = ["policy", "execute", "a:1-b", "--input", "{}", "--executor", "e1", "--logs"];
    assert_eq!(server.edict(&arguments).await.unwrap(), "{\n  \"allowed\": true\n}\n");
    let printed = server.edict(&[&arguments[..], &["--output", "json"]].concat()).await.unwrap();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, json!({"data": {"allowed": true}, "logs": [log]}));
    assert_eq!(server.seen()[0], "POST /executor/e1/execute_policy?logs=true");
}

#[tokio::test]
async fn a_command_prints_what_management_returned() {
    let server =
        Server::start([("POST /executor/local/execute_mgmt_command", 200, data(json!({"limit": 5})))]).await;
    let printed = server.edict(&["policy", "manage", "a:1-b", "get_limit"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), json!({"limit": 5}));
}

#[tokio::test]
async fn a_closed_pipe_ends_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let server = Server::start([("POST /policy/query", 200, data(json!([policy()])))]).await;
    for arguments in [&["policy", "list"][..], &["completions", "bash"]] {
        let failure = server.edict_into(arguments, &mut Closed).await.unwrap_err();
        assert!(failure.quiet, "{}", failure.text());
    }
}

#[tokio::test]
async fn uploads_a_file() {
    let server = Server::start([("POST /upload_asset", 200, data(asset("x")))]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.bin");
    std::fs::write(&file, "content").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(server.edict(&["asset", "upload", file]).await.unwrap(), "f:1.0-stable\n");
    let failure = server.edict(&["asset", "upload", folder.path().to_str().unwrap()]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert_eq!(server.seen(), ["POST /upload_asset"]);
}

#[tokio::test]
async fn downloads_a_file_once() {
    let server = Server::start([
        ("GET /asset/f:1.0-stable", 200, data(asset(&sha256("content")))),
        ("GET /asset-object/id-1", 200, json!("content")),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("here.bin");
    let arguments = ["asset", "download", "f:1.0-stable", "--to", target.to_str().unwrap()];
    server.edict(&arguments).await.unwrap();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "content");
    let failure = server.edict(&arguments).await.unwrap_err();
    assert!(failure.message.contains("--force"), "{}", failure.message);
    server.edict(&[&arguments[..], &["--force"]].concat()).await.unwrap();
    assert_eq!(server.edict(&["asset", "download", "f:1.0-stable", "--to", "-"]).await.unwrap(), "content");
}

#[tokio::test]
async fn a_damaged_download_leaves_nothing() {
    let server = Server::start([
        ("GET /asset/f:1.0-stable", 200, data(asset(&sha256("content")))),
        ("GET /asset-object/id-1", 200, json!("c0ntent")),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("here.bin");
    let arguments = ["asset", "download", "f:1.0-stable", "--to", target.to_str().unwrap()];
    let failure = server.edict(&arguments).await.unwrap_err();
    assert!(failure.message.contains("damaged"), "{}", failure.message);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn typed_policy() -> Policy {
    serde_json::from_value(policy()).unwrap()
}

#[tokio::test]
async fn pushing_the_same_code_again_stores_nothing() {
    let digest = sha256("archive");
    let server = Server::start([
        ("POST /upload_asset", 409, refusal("asset_exists", "it is there")),
        ("GET /asset/a:1-b-0eb3e36bfb24dcd9", 200, data(asset(&digest))),
    ])
    .await;
    let uri = format!("GET /asset/a:1-b-{}", &digest[..16]);
    let found = upload(&server.client(), &typed_policy(), Bytes::from("archive")).await;
    assert_eq!(server.seen(), ["POST /upload_asset".to_owned(), uri]);
    assert_eq!(found.unwrap().asset_uri, "f:1.0-stable");
}

#[tokio::test]
async fn push_replaces_only_when_told() {
    let server = Server::start([
        ("POST /policy", 409, refusal("policy_exists", "`a:1-b` exists")),
        ("PUT /policy/a:1-b", 200, data(policy())),
    ])
    .await;
    let client = server.client();
    let failure = register(&client, "a:1-b", &Object::new(), false).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.text().contains("--update"), "{}", failure.text());
    assert_eq!(register(&client, "a:1-b", &Object::new(), true).await.unwrap().record.revision, 2);
    assert_eq!(server.seen(), ["POST /policy?verify=true", "PUT /policy/a:1-b"]);
}

#[tokio::test]
async fn push_with_update_registers_what_is_new() {
    let server = Server::start([("POST /policy", 201, data(policy()))]).await;
    register(&server.client(), "a:1-b", &Object::new(), true).await.unwrap();
    assert_eq!(server.seen(), ["PUT /policy/a:1-b", "POST /policy?verify=true"]);
}
