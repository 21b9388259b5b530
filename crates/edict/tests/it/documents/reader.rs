//! A reader at work: a folder, a shell that remembers where it is and what it exported, and servers.

use super::markdown::Block;
use super::root;
use crate::support::{EDICT, TestApp, wait_for};
use edict_testbed::Namespace;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What the documents call the listeners, whatever ports the test gives them.
const WELL_KNOWN: [(&str, &str); 4] =
    [("system", "5000"), ("engine", "3000"), ("actions", "4000"), ("executor", "10250")];

/// A reader who types what a document says.
pub(super) struct Reader {
    /// The server that is there from the start.
    app: TestApp,
    dir: TempDir,
    /// Processes that the document started, with the name of what each is.
    started: Vec<(String, Child)>,
    /// The reader's own part of a cluster, once a document needs it.
    cluster: Option<Namespace>,
    /// Where the listeners really are, in `WELL_KNOWN`'s order; empty for what is not there.
    urls: Vec<String>,
}

/// What a line of a `sh` block is.
enum Line<'a> {
    Server(&'a str),
    Cargo(&'a str),
    Pip(&'a str),
    Shell(&'a str),
}

impl Reader {
    pub(super) fn start() -> Self {
        let app = TestApp::start();
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        copy(&root().join("policies"), &dir.path().join("work/policies"));
        copy(&root().join("deploy"), &dir.path().join("work/deploy"));
        let urls = ["system", "engine", "actions"].iter().map(|name| app.listener(name));
        let urls = urls.chain([String::new()]).collect();
        let reader = Self { app, dir, started: Vec::new(), cluster: None, urls };
        reader.write_state(&reader.app.data_dir());
        reader
    }

    /// Writes a file into the folder that the shell is in.
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.folder().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Whether there is a cluster; from now on the shell's `kubectl` is its administrator's, in a namespace of its own.
    pub(super) fn has_cluster(&mut self) -> bool {
        if self.cluster.is_none() {
            let Some(namespace) = Namespace::new() else { return false };
            let kubeconfig = self.dir.path().join("kubeconfig");
            fs::copy(namespace.admin(), &kubeconfig).unwrap();
            let script = format!(
                "export KUBECONFIG={}; kubectl config set-context --current --namespace={}",
                kubeconfig.display(),
                namespace.name()
            );
            assert_eq!(self.bash(&script).0, 0);
            self.cluster = Some(namespace);
        }
        true
    }

    /// Fails unless `text` is an `edict.toml`.
    pub(super) fn check_settings(&self, place: &str, text: &str) {
        let file = self.dir.path().join("settings.toml");
        fs::write(&file, text).unwrap();
        let (code, printed) = self.bash(&format!("EDICT_CONFIG={} edict config", file.display()));
        assert_eq!(code, 0, "{place}: no settings:\n{printed}");
    }

    /// Runs a block and returns what it printed.
    pub(super) fn run(&mut self, place: &str, block: &Block) -> String {
        let expected = block.value("exit").map_or(0, |code| code.parse().unwrap());
        if block.language == "python" {
            let file = self.dir.path().join("block.py");
            fs::write(&file, self.real(&block.text)).unwrap();
            let (code, printed) = self.bash(&format!("python3 {}", file.display()));
            assert_eq!(code, expected, "{place} ended with {code}:\n{printed}");
            return self.shown(&printed);
        }
        let (mut printed, mut code, mut script) = (String::new(), 0, String::new());
        for line in block.text.lines() {
            match classify(line) {
                Line::Shell(line) => {
                    script.push_str(line);
                    script.push('\n');
                    continue;
                }
                Line::Server(line) => {
                    self.flush(&mut script, &mut code, &mut printed);
                    printed.push_str(&self.serve(place, line));
                }
                Line::Cargo(line) => self.check_cargo(place, line),
                Line::Pip(line) => check_pip(place, line),
            }
        }
        self.flush(&mut script, &mut code, &mut printed);
        assert_eq!(code, expected, "{place} ended with {code}:\n{printed}");
        self.shown(&printed)
    }

    /// Ends what the document started, newest first.
    pub(super) fn end(mut self) {
        while let Some((line, mut child)) = self.started.pop() {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            let status = wait_for(|| child.try_wait().unwrap());
            assert!(status.is_some_and(|status| status.success()), "`{line}` did not end well: {status:?}");
        }
    }

    fn flush(&self, script: &mut String, code: &mut i32, printed: &mut String) {
        if *code == 0 && !script.trim().is_empty() {
            let (ended, text) = self.bash(&self.real(script));
            *code = ended;
            printed.push_str(&text);
        }
        script.clear();
    }

    /// Runs a script where the one before left off; returns how it ended and what it printed.
    fn bash(&self, script: &str) -> (i32, String) {
        let state = self.dir.path().join("state");
        let script = format!(
            "source {0}\ntrap 'code=$?; {{ export -p; echo \"cd $(printf %q \"$PWD\")\"; }} > {0}; exit $code' EXIT\n\
             set -eo pipefail\n{script}",
            state.display()
        );
        let output = self.dir.path().join("output");
        let file = File::create(&output).unwrap();
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().unwrap();
        (status.code().unwrap_or(-1), fs::read_to_string(output).unwrap())
    }

    /// Starts a server or an executor; what follows in the document goes to it.
    fn serve(&mut self, place: &str, line: &str) -> String {
        let number = self.started.len();
        let (ready, log) =
            (self.dir.path().join(format!("ready-{number}")), self.dir.path().join(format!("log-{number}")));
        let data = self.dir.path().join(format!("data-{number}"));
        let (assignments, command) = line.split_at(line.find("edict ").unwrap());
        let ports = "EDICT_SYSTEM_PORT=0 EDICT_ENGINE_PORT=0 EDICT_ACTIONS_PORT=0 EDICT_EXECUTOR_PORT=0";
        let script = format!(
            "source {}; {assignments} EDICT_DATA_DIR={} {ports} exec {} --ready-file {}",
            self.dir.path().join("state").display(),
            data.display(),
            self.real(command),
            ready.display()
        );
        let file = File::create(&log).unwrap();
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let log = || fs::read_to_string(&log).unwrap();
        let urls = wait_for(|| {
            assert!(child.try_wait().unwrap().is_none(), "{place}: `{line}` ended:\n{}", log());
            fs::read(&ready).ok()
        });
        let urls: Value =
            serde_json::from_slice(&urls.unwrap_or_else(|| panic!("{place}: {}", log()))).unwrap();
        for ((name, _), url) in WELL_KNOWN.iter().zip(&mut self.urls) {
            if let Some(new) = urls[name].as_str() {
                new.clone_into(url);
            }
        }
        if urls["system"].is_string() {
            self.write_state(&data);
        }
        self.started.push((line.to_owned(), child));
        log()
    }

    /// What the shell starts with.
    fn write_state(&self, data: &Path) {
        let own = self.dir.path();
        let bin = Path::new(EDICT).parent().unwrap();
        let mut exports = format!("cd {}\n", self.folder().display());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EDICT_")) {
            exports.push_str(&format!("unset {name}\n"));
        }
        for (name, value) in [
            ("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())),
            ("EDICT_URL", self.urls[0].clone()),
            ("EDICT_ENGINE_URL", self.urls[1].clone()),
            ("POLICY_DB_URL", self.urls[0].clone()),
            ("EDICT_ACTIONS_URL", self.urls[2].clone()),
            ("EDICT_DATA_DIR", data.display().to_string()),
            ("EDICT_CACHE_DIR", own.join("cache").display().to_string()),
            ("PYTHONPATH", root().join("sdk/python/src").display().to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
        ] {
            exports.push_str(&format!("export {name}='{value}'\n"));
        }
        fs::write(own.join("state"), exports).unwrap();
    }

    /// Where the shell is.
    fn folder(&self) -> PathBuf {
        let state = fs::read_to_string(self.dir.path().join("state")).unwrap_or_default();
        let folder = state.lines().rev().find_map(|line| line.strip_prefix("cd "));
        folder.map_or_else(|| self.dir.path().join("work"), PathBuf::from)
    }

    /// The text with the test's ports.
    fn real(&self, text: &str) -> String {
        WELL_KNOWN.iter().zip(&self.urls).filter(|(_, url)| !url.is_empty()).fold(
            text.to_owned(),
            |text, ((_, port), url)| {
                let text = text.replace(&format!("http://localhost:{port}"), url);
                text.replace(&format!("http://127.0.0.1:{port}"), url)
            },
        )
    }

    /// The text with the ports that the documents show.
    fn shown(&self, text: &str) -> String {
        WELL_KNOWN
            .iter()
            .zip(&self.urls)
            .filter(|(_, url)| !url.is_empty())
            .fold(text.to_owned(), |text, ((_, port), url)| {
                text.replace(url.as_str(), &format!("http://127.0.0.1:{port}"))
            })
    }

    /// Building and testing inside a test would wait for itself; that the command exists is checked instead, and what
    /// `cargo run` starts is run as it was built for the test.
    fn check_cargo(&self, place: &str, line: &str) {
        let line = line.split('#').next().unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["cargo", "xtask", verb, ..] => {
                assert!(read(".cargo/config.toml").contains("xtask = "), "{place}: no alias `xtask`");
                let known = read("xtask/src/main.rs").contains(&format!("Some(\"{verb}\")"));
                assert!(known, "{place}: xtask has no verb `{verb}`");
            }
            ["cargo", "run", "--release", "--", arguments @ ..] => {
                let (code, printed) = self.bash(&format!("edict {}", arguments.join(" ")));
                assert_eq!(code, 0, "{place} ended with {code}:\n{printed}");
            }
            ["cargo", "build", "--release"] => {}
            ["cargo", "install", "--path", path] => {
                assert!(root().join(path).join("Cargo.toml").exists(), "{place}: there is no {path}");
            }
            ["cargo", "test", "-p", name, ..] => {
                assert!(root().join("crates").join(name).exists(), "{place}: there is no crate {name}");
            }
            _ => panic!("{place}: this test does not know `{line}`"),
        }
    }
}

fn classify(line: &str) -> Line<'_> {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    });
    match (words.next(), words.next(), words.next()) {
        (Some("cargo"), _, _) => Line::Cargo(line),
        (Some("pip"), Some("install"), _) => Line::Pip(line),
        (Some("edict"), Some("serve"), _) => Line::Server(line),
        (Some("edict"), Some("executor"), next) if next != Some("list") => Line::Server(line),
        _ => Line::Shell(line),
    }
}

/// Installing needs the network; that there is something to install is checked instead.
fn check_pip(place: &str, line: &str) {
    let path = line.split_whitespace().last().unwrap();
    assert!(root().join(path).join("pyproject.toml").exists(), "{place}: `{line}`: there is no package");
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
