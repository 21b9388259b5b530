//! A PostgreSQL server for the tests, from Debian's package, on a free port of the loopback address.

use crate::run::{self, Failure, output};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running server; stopped and removed when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) bin: PathBuf,
    folder: PathBuf,
}

/// Starts a server with an empty database.
pub(crate) fn start() -> Result<Server, Failure> {
    let bin = match programs() {
        Some(bin) => bin,
        None => {
            run::install(&["postgresql"])?;
            programs().ok_or_else(|| {
                Failure("PostgreSQL is installed, but its programs are not found".to_owned())
            })?
        }
    };
    // Below /tmp: the server runs as a user of its own, who may not be let into this folder.
    let folder = PathBuf::from(output("mktemp", &["-d", "/tmp/edict-postgres.XXXXXX"])?);
    if run::is_root() {
        output("chown", &["postgres", &folder.display().to_string()])?;
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let server = Server { url: format!("postgres://postgres@127.0.0.1:{port}/postgres"), bin, folder };
    let data = server.folder.join("data").display().to_string();
    server.act("initdb", &["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", &data])?;
    // No fsync: these databases live as long as one test, and a test of durability starts a server of its own.
    let options = format!(
        "-p {port} -k {} -c listen_addresses=127.0.0.1 -c max_connections=400 -c fsync=off",
        server.folder.display()
    );
    let log = server.folder.join("log").display().to_string();
    server.act("pg_ctl", &["start", "-w", "-D", &data, "-l", &log, "-o", &options])?;
    Ok(server)
}

/// The folder with PostgreSQL's server programs, the newest if there are several.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|bin| bin.join("initdb").exists())
    };
    found.pop().map(|(_, bin)| bin).or_else(on_path)
}

impl Server {
    /// Runs one of the server's programs, as the user `postgres` when we are root: they refuse to run as root.
    fn act(&self, program: &str, arguments: &[&str]) -> Result<(), Failure> {
        let program = self.bin.join(program);
        let mut command = if run::is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        // The folder that we are in may be closed to that user.
        command.args(arguments).current_dir(Path::new("/")).stdout(std::process::Stdio::null());
        let status = command.status()?;
        if status.success() {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(Failure(format!("{} ended with {status}\n{log}", program.display())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.join("data").display().to_string();
        if let Err(Failure(why)) = self.act("pg_ctl", &["stop", "-m", "immediate", "-D", &data]) {
            println!("xtask: {why}");
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
