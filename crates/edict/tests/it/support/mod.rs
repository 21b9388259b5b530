//! A server per test, with a database and a data folder of its own.
//!
//! When the server is dropped it is told to stop, and the test fails if it does not stop cleanly, if it reported a
//! mistake of its own, or if a process of it is left.

pub(crate) mod actions;
pub(crate) mod archive;
mod cluster;
mod database;
mod decision_log;
mod decisions;
mod functions;
mod outside;
pub(crate) mod pods;
mod prometheus;
mod runs;

pub(crate) use database::Database;
pub(crate) use decision_log::{Asking, asked_by};
pub(crate) use decisions::{ask, decision_policy};
pub(crate) use functions::Load;
pub(crate) use outside::{Moto, Postgres, WebServer};
pub(crate) use prometheus::Prometheus;
pub(crate) use runs::{SAMPLE, files_below, refusal};

use edict_client::Client;
use serde_json::Value;
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for something that takes milliseconds on a quiet machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const EDICT: &str = env!("CARGO_BIN_EXE_edict");

/// How a server is to be started.
pub(crate) struct Builder {
    database: Database,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    token: Option<String>,
    verb: &'static str,
}

/// A running server.
pub(crate) struct TestApp {
    child: Child,
    urls: Value,
    dir: TempDir,
    database: Database,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    token: Option<String>,
    verb: &'static str,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    /// Null if it was no JSON.
    pub(crate) json: Value,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    /// A header's text; empty without it.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request that a test has put together.
pub(crate) async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.unwrap().to_vec();
    Reply { status, headers, json: serde_json::from_slice(&bytes).unwrap_or_default(), bytes }
}

impl Builder {
    /// The database; SQLite unless said otherwise.
    pub(crate) fn database(mut self, database: Database) -> Self {
        self.database = database;
        self
    }

    /// A setting, by the name that `edict.toml` would use.
    pub(crate) fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// A variable of the server's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has it want this token of administrators; the test's requests present it.
    pub(crate) fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self.env("EDICT_AUTH_TOKENS", &format!("admin:{token}"))
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn start(self) -> TestApp {
        let dir = TempDir::new().unwrap();
        let Self { database, settings, environment, token, verb } = self;
        let child = launch(verb, dir.path(), &database, &settings, &environment);
        let urls = Value::Null;
        let mut app = TestApp { child, urls, dir, database, settings, environment, token, verb };
        app.wait_until_ready();
        app
    }
}

fn launch(
    verb: &str,
    dir: &Path,
    database: &Database,
    settings: &[(String, String)],
    environment: &[(String, String)],
) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log")).unwrap();
    let mut command = edict(dir);
    command.envs(environment.iter().cloned());
    command.arg(verb).arg("--ready-file").arg(dir.join("ready.json"));
    command.arg("--data-dir").arg(dir.join("data"));
    for port in ["system_port", "engine_port", "actions_port", "executor_port"] {
        if settings.iter().all(|(name, _)| name != port) {
            command.args([&format!("--{}", port.replace('_', "-")), "0"]);
        }
    }
    if let Some(url) = database.url() {
        command.args(["--database-url", &url]);
    }
    for (name, value) in settings {
        command.args([&format!("--{}", name.replace('_', "-")), value]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The program in a folder, with no setting from the developer's own environment.
pub(crate) fn edict(dir: &Path) -> Command {
    let mut command = Command::new(EDICT);
    command.current_dir(dir);
    let own = |name: &str| {
        let named = ["JWT_SECRET", "KUBECONFIG", "ALLOWED_NAMESPACES", "POLICY_ENGINE_URL"];
        ["EDICT_", "RATE_LIMIT_", "REQUIRE_"].iter().any(|prefix| name.starts_with(prefix))
            || named.contains(&name)
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

impl TestApp {
    /// A server to be configured.
    pub(crate) fn builder() -> Builder {
        let (settings, environment, verb) = (Vec::new(), Vec::new(), "serve");
        Builder { database: Database::sqlite(), settings, environment, token: None, verb }
    }

    /// An executor process to be configured, which registers with `system` under `id`.
    pub(crate) fn executor(id: &str, system: &TestApp) -> Builder {
        let builder = Builder { verb: "executor", ..Self::builder() };
        builder.setting("executor_id", id).setting("server_url", system.url())
    }

    /// A server on SQLite with the default settings.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    /// Address of the policy system (of an executor: its own).
    pub(crate) fn url(&self) -> String {
        self.listener(if self.verb == "executor" { "executor" } else { "system" })
    }

    /// Address of a listener: `system`, `engine`, `actions` or `executor`.
    pub(crate) fn listener(&self, name: &str) -> String {
        self.urls[name].as_str().unwrap().to_owned()
    }

    /// A typed client with the token that the server wants, if it wants one.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url(), self.token.as_deref()).unwrap()
    }

    /// A typed client with a token.
    pub(crate) fn client_with(&self, token: &str) -> Client {
        Client::new(&self.url(), Some(token)).unwrap()
    }

    /// A request to the policy system, to be completed and sent with [`reply`].
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = http().request(method.parse().unwrap(), format!("{}{path}", self.url()));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Registers a policy and expects that to work; returns the reply's body.
    pub(crate) async fn register(&self, policy: &Value) -> Value {
        let (status, reply) = self.json("POST", "/policy", policy).await;
        assert_eq!(status, 200, "{reply}");
        reply
    }

    /// Sends any request to the policy system; returns status and JSON body (null if it is no JSON).
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let response = self.request(method, path).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Sends JSON to the policy system.
    pub(crate) async fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.send(method, path, body.to_string()).await
    }

    /// Gets a path of the policy system.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "").await
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's data folder.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The number that a statement returns, straight from the database.
    pub(crate) async fn sql(&self, sql: &'static str) -> i64 {
        let (number,) = match self.database.url() {
            Some(url) => {
                let mut connection = PgConnection::connect(&url).await.unwrap();
                sqlx::query_as::<_, (i64,)>(sql).fetch_one(&mut connection).await.unwrap()
            }
            None => {
                let file = format!("sqlite://{}/edict.db", self.data_dir().display());
                let mut connection = SqliteConnection::connect(&file).await.unwrap();
                sqlx::query_as::<_, (i64,)>(sql).fetch_one(&mut connection).await.unwrap()
            }
        };
        number
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// Ends the server at once, as a crash or the kernel would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_file(self.dir.path().join("ready.json")).ok();
    }

    /// Tells the server to stop and waits; returns whether it ended with success.
    pub(crate) fn stop(&mut self) -> bool {
        terminate(self.child.id());
        wait_for(|| self.child.try_wait().unwrap()).is_some_and(|status| status.success())
    }

    /// Starts the server again, on the same data, after [`kill`](Self::kill) or [`stop`](Self::stop).
    pub(crate) fn restart(&mut self) {
        self.child = launch(self.verb, self.dir.path(), &self.database, &self.settings, &self.environment);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let file = self.dir.path().join("ready.json");
        let ready = wait_for(|| {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "the server ended at its start:\n{}",
                self.log()
            );
            fs::read(&file).ok()
        });
        let ready = ready.unwrap_or_else(|| panic!("the server is not ready:\n{}", self.log()));
        self.urls = serde_json::from_slice(&ready).unwrap();
    }

    /// Processes that belong to this server, itself not counted: those with its data folder in their command line or
    /// open, and their descendants. Polls until there are none or the patience is over.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let data = self.data_dir();
        let mut left = Vec::new();
        wait_for(|| {
            left = processes_of(&data, self.child.id());
            left.is_empty().then_some(())
        });
        left
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.child.kill().ok();
            self.child.wait().ok();
            eprintln!("--- log of the server ---\n{}", self.log());
            return;
        }
        if self.child.try_wait().unwrap().is_none() {
            assert!(self.stop(), "the server did not stop cleanly:\n{}", self.log());
        }
        let left = self.left_behind();
        assert!(left.is_empty(), "processes were left behind: {left:?}\n{}", self.log());
        let log = self.log();
        let mistakes = ["internal error", "panicked at"].iter().any(|sign| log.contains(sign));
        assert!(!mistakes, "the server reported a mistake of its own:\n{log}");
    }
}

/// A client that waits longer than any test needs. Tests share it, since making one takes long; it keeps no
/// connections, which would end with the runtime of the test that opened them.
pub(crate) fn http() -> reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        http_builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(200)).build().unwrap()
    });
    CLIENT.clone()
}

/// For a client of one's own, whichever test comes first.
pub(crate) fn http_builder() -> reqwest::ClientBuilder {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy()
}

/// A port that nobody listens on, for servers that must come back where they were; no test is given one that another has.
pub(crate) fn free_port() -> u16 {
    /// Below those that the kernel gives to whoever wants any, so that none is taken in between, and below a cluster's node
    /// ports.
    const PORTS: std::ops::Range<u32> = 20_000..30_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Runs of the tests side by side begin at different places.
        let at = std::process::id().wrapping_mul(97).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + at % (PORTS.end - PORTS.start)).unwrap();
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Polls until there is something, or the patience is over.
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Some(found) => return Some(found),
            None if Instant::now() > end => return None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn terminate(pid: u32) {
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
}

fn pids_of(data: &Path, server: u32) -> Vec<u32> {
    let pid = |process: String| process.split(':').next()?.parse().ok();
    processes_of(data, server).into_iter().filter_map(pid).collect()
}

fn processes_of(data: &Path, server: u32) -> Vec<String> {
    let data = data.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let text = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let command = text("cmdline").replace('\0', " ");
        let mounts = text("mountinfo");
        // Workers have the folder in their command line or mounted into their view of the file system.
        if pid != server
            && (command.contains(&data) || mounts.contains(&data))
            && !text("stat").contains(") Z ")
        {
            found.push(format!("{pid}: {command}"));
        }
    }
    found
}

/// The source of a policy whose `eval` has this body (indented by nothing).
pub(crate) fn policy_source(body: &str) -> String {
    let body = body.trim().replace('\n', "\n        ");
    format!(
        "class AIOSv1PolicyRule:\n    def __init__(self, rule_id, settings, parameters):\n        \
         self.rule_id, self.settings, self.parameters = rule_id, settings, parameters\n\n    \
         def eval(self, parameters, input_data, context):\n        {body}\n"
    )
}

/// A policy record with this source.
pub(crate) fn policy(name: &str, source: &str) -> Value {
    serde_json::json!({"name": name, "version": "1.0", "release_tag": "test", "code": source})
}
