//! The demo's server: this program as `edict serve`, on free ports, in the temporary folder.

use super::super::failure::Failure;
use crate::settings::variables;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Longest wait for the server to start or stop.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct DemoServer {
    child: Child,
    /// The policy system.
    pub(super) url: String,
    /// The policy engine.
    pub(super) engine: String,
    /// The action executor.
    pub(super) actions: String,
    /// From starting the process to its being ready.
    pub(super) started_in: Duration,
}

impl DemoServer {
    /// Starts it with these settings besides, by the names of their variables.
    pub(super) async fn start(folder: &Path, settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let started = Instant::now();
        let ready_file = folder.join("ready.json");
        let log = std::fs::File::create(folder.join("server.log"))
            .map_err(|error| Failure::failed(error.to_string()))?;
        let program = std::env::current_exe().map_err(|error| Failure::failed(error.to_string()))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--data-dir").arg(folder.join("data")).arg("--ready-file").arg(&ready_file);
        command.args([
            "--system-port",
            "0",
            "--engine-port",
            "0",
            "--actions-port",
            "0",
            // Nobody wants to watch a function's load for minutes.
            "--autoscale-seconds",
            "1",
        ]);
        // The demo is its own world: settings for other servers of this user do not reach into it.
        for name in variables().chain(["EDICT_CONFIG".to_owned()]).filter(|name| name != "EDICT_PYTHON") {
            command.env_remove(name);
        }
        command.env("EDICT_BIND", "127.0.0.1").envs(settings.iter().copied());
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|error| Failure::failed(format!("cannot start a server: {error}")))?;
        loop {
            if let Ok(text) = std::fs::read(&ready_file) {
                let urls: Value = serde_json::from_slice(&text).unwrap_or_default();
                let url = |name: &str| urls.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let (engine, actions) = (url("engine"), url("actions"));
                return Ok(Self {
                    child,
                    url: url("system"),
                    engine,
                    actions,
                    started_in: started.elapsed(),
                });
            }
            let ended = child.try_wait().ok().flatten().is_some();
            if ended || started.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
                return Err(Failure::failed("the demo's server did not start").note("its log", log));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends the server as an operator would.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        if let Some(pid) =
            self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            _ => Err(Failure::failed("the demo's server did not stop cleanly")),
        }
    }
}
