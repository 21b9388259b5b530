//! What servers under test depend on: web servers, an S3 service, a PostgreSQL server that may be killed.

use super::{PATIENCE, http, wait_for};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tempfile::TempDir;
use tokio::task::JoinHandle;

type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Serves files under an address that is known before it is up.
pub(crate) struct WebServer {
    address: SocketAddr,
    files: Files,
    task: Option<JoinHandle<()>>,
}

impl WebServer {
    /// A server that is not up yet.
    pub(crate) fn down() -> Self {
        Self { address: free_address(), files: Files::default(), task: None }
    }

    pub(crate) async fn start() -> Self {
        let mut server = Self::down();
        server.up().await;
        server
    }

    pub(crate) async fn up(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        let router = Router::new().fallback(file).with_state(Arc::clone(&self.files));
        self.task = Some(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    }

    /// Serves this content under this path from now on; returns its URL.
    pub(crate) fn put(&self, path: &str, content: Vec<u8>) -> String {
        self.files.lock().unwrap().insert(path.to_owned(), content);
        self.url(path)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn file(State(files): State<Files>, uri: Uri) -> Result<Vec<u8>, StatusCode> {
    files.lock().unwrap().get(uri.path()).cloned().ok_or(StatusCode::NOT_FOUND)
}

/// An address that nothing listens on.
pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The path that a variable names; None, with a line that says so, without it. With `CI` set that fails.
pub(super) fn tool(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} is not set: use `cargo xtask test`");
        eprintln!("skipped: {variable} is not set");
    }
    path
}

/// An S3 service with one bucket.
pub(crate) struct Moto {
    child: Child,
    endpoint: String,
}

impl Moto {
    pub(crate) async fn start(bucket: &str) -> Option<Self> {
        let program = tool("EDICT_TEST_MOTO")?;
        let address = free_address();
        let port = address.port().to_string();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null());
        let moto = Self { child: command.spawn().unwrap(), endpoint: format!("http://{address}") };
        let end = Instant::now() + PATIENCE;
        while http().put(format!("{}/{bucket}", moto.endpoint)).send().await.is_err() {
            assert!(Instant::now() < end, "the S3 service does not answer");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Some(moto)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A PostgreSQL server of a test's own.
pub(crate) struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    address: SocketAddr,
}

impl Postgres {
    pub(crate) fn start() -> Option<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// One that listens on this address of the machine, and lets in whoever reaches it.
    pub(crate) fn start_at(address: IpAddr) -> Option<Self> {
        let bin = tool("EDICT_TEST_POSTGRES_BIN")?;
        let dir = TempDir::new().unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap().success());
        }
        let address = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap();
        let server = Self { bin, dir, address };
        let data = server.data();
        let made = server
            .command("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"])
            .arg(&data)
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut rules = OpenOptions::new().append(true).open(data.join("pg_hba.conf")).unwrap();
        rules.write_all(b"host all all all trust\n").unwrap();
        server.up();
        Some(server)
    }

    pub(crate) fn up(&self) {
        let (address, folder) = (self.address, self.dir.path().display());
        let options = format!("-p {} -k {folder} -c listen_addresses={}", address.port(), address.ip());
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.data()).args(["-w", "-t", "60", "-o", &options]);
        command.arg("-l").arg(self.dir.path().join("log")).arg("start");
        // Files instead of pipes: the server keeps them open, and a pipe would never end.
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success();
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(started, "PostgreSQL does not start:\n{log}");
    }

    /// Ends it as a power cut would: the server and every process of it, none with a chance to write.
    pub(crate) fn kill(&self) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let server = file.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").args(["-P", &server]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        let all: Vec<&str> = std::iter::once(server.as_str()).chain(children.split_whitespace()).collect();
        Command::new("kill").arg("-9").args(&all).status().unwrap();
        let gone = wait_for(|| (!all.iter().any(|pid| running(pid))).then_some(()));
        gone.expect("the PostgreSQL server is still there");
        // Its successor takes a process that nobody has reaped yet for one that lives.
        for lock in ["data/postmaster.pid".to_owned(), format!(".s.PGSQL.{}.lock", self.address.port())] {
            std::fs::remove_file(self.dir.path().join(lock)).unwrap();
        }
    }

    /// URL of an administrator.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.dir.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let mut command = self.command("pg_ctl");
            command.arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
