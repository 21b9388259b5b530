//! Running the programs that install packages, and what is told about them.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{EnvironmentError, EnvironmentOptions};

/// Most of an installer's output that is kept, in bytes: its end.
const OUTPUT: usize = 64 << 10;
/// Lines of it that go into an error, and how long each may be, in characters.
const LINES: usize = 20;
const LINE_LENGTH: usize = 500;

/// Variables that installers get. Everything else stays behind: the server's environment holds secrets, and
/// variables like `UV_TARGET` or `PYTHONPATH` would send packages to other places.
const KEPT: [&str; 31] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_NO_INDEX",
    "PIP_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_OFFLINE",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_KEYRING_PROVIDER",
    "UV_EXCLUDE_NEWER",
    "UV_LINK_MODE",
];
const KEPT_PREFIXES: [&str; 5] = ["UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX", "UV_HTTP", "UV_INSECURE"];
/// pip's names for what uv calls otherwise; people have set those.
const SAME: [(&str, &str); 6] = [
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
    ("PIP_NO_INDEX", "UV_NO_INDEX"),
    ("PIP_CERT", "SSL_CERT_FILE"),
    ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
];

/// The environment of an installer, and what must not be told about it.
pub(super) struct Installer {
    variables: Vec<(String, OsString)>,
    home: PathBuf,
    /// Texts to replace in messages, with what stands for them; the longest first.
    hidden: Vec<(String, &'static str)>,
}

impl Installer {
    pub(super) fn new(
        home: PathBuf,
        options: &EnvironmentOptions,
        given: impl Iterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut variables: Vec<(String, OsString)> = given
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| !value.is_empty() && is_kept(name))
            .collect();
        if let Some(index) = &options.index_url {
            variables.retain(|(name, _)| !matches!(name.as_str(), "UV_DEFAULT_INDEX" | "UV_INDEX_URL"));
            set(&mut variables, "PIP_INDEX_URL", index);
            set(&mut variables, "UV_DEFAULT_INDEX", index);
        }
        if !options.extra_index_urls.is_empty() {
            let extra = options.extra_index_urls.join(" ");
            set(&mut variables, "PIP_EXTRA_INDEX_URL", &extra);
            set(&mut variables, "UV_EXTRA_INDEX_URL", &extra);
        }
        let has = |variables: &[(String, OsString)], name: &str| variables.iter().any(|(n, _)| n == name);
        for (pip, uv) in SAME {
            let already = has(&variables, uv) || (pip == "PIP_INDEX_URL" && has(&variables, "UV_INDEX_URL"));
            if let Some((_, value)) = variables.iter().find(|(name, _)| name == pip).cloned()
                && !already
            {
                variables.push((uv.to_owned(), value));
            }
        }
        let hidden = hidden(&variables);
        for (name, value) in [
            ("UV_NO_CONFIG", "1"),
            ("UV_NO_PROGRESS", "1"),
            ("UV_PYTHON_DOWNLOADS", "never"),
            ("NO_COLOR", "1"),
            ("PIP_NO_INPUT", "1"),
            ("PIP_NO_CACHE_DIR", "1"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ] {
            set(&mut variables, name, value);
        }
        Self { variables, home, hidden }
    }

    /// Runs a program to its end. `lock` is held open by it: should this process die, the lock is released
    /// only when the program, which then is on its own, has ended too.
    ///
    /// When the future is dropped, the program and all it started are killed.
    pub(super) async fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        scratch: &Path,
        lock: &std::fs::File,
    ) -> Result<(), EnvironmentError> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("HOME", &self.home)
            .env("UV_CACHE_DIR", self.home.join("cache"))
            .env("TMPDIR", scratch)
            .current_dir(scratch)
            // An empty file, like /dev/null; the child's copy is what keeps the lock.
            .stdin(Stdio::from(lock.try_clone()?))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (status, stdout, stderr) = tokio::join!(child.wait(), end_of(stdout), end_of(stderr));
        group.ended();
        if status?.success() {
            return Ok(());
        }
        let output = if stderr.trim().is_empty() { stdout } else { stderr };
        Err(EnvironmentError::Install { log: self.last_lines(&output) })
    }

    /// The end of an installer's output, without secrets and without the server's paths.
    fn last_lines(&self, output: &str) -> String {
        let mut text = output.to_owned();
        for (secret, stand_in) in &self.hidden {
            text = text.replace(secret, stand_in);
        }
        let text = without_paths(&without_credentials(&text));
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        let cut = last.iter().map(|line| line.chars().take(LINE_LENGTH).collect::<String>());
        cut.collect::<Vec<_>>().join("\n")
    }
}

fn is_kept(name: &str) -> bool {
    KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn set(variables: &mut Vec<(String, OsString)>, name: &str, value: &str) {
    variables.retain(|(other, _)| other != name);
    variables.push((name.to_owned(), value.into()));
}

/// The values of variables that may hold secrets: addresses, user names, passwords.
fn hidden(variables: &[(String, OsString)]) -> Vec<(String, &'static str)> {
    let mut hidden = Vec::new();
    for (name, value) in variables {
        let value = value.to_string_lossy();
        if name.ends_with("_PASSWORD") || name.ends_with("_USERNAME") {
            hidden.push((value.into_owned(), "***"));
        } else if name.contains("INDEX") || name.ends_with("FIND_LINKS") {
            let addresses = value.split([' ', ',']).filter(|address| address.len() > 3);
            hidden.extend(addresses.map(|address| (address.trim_end_matches('/').to_owned(), "<index>")));
        }
    }
    hidden.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
    hidden
}

/// `https://user:secret@host` → `https://***@host`.
fn without_credentials(text: &str) -> String {
    let mut pieces = text.split("://");
    let mut clean = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        clean.push_str("://");
        let end = piece.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(piece.len());
        let (authority, rest) = piece.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => clean.extend(["***@", host]),
            None => clean.push_str(authority),
        }
        clean.push_str(rest);
    }
    clean
}

/// Absolute paths cut to their last part: `/srv/edict/x/y.whl` → `…/y.whl`.
fn without_paths(text: &str) -> String {
    let text = text.replace("file:///", "/");
    let mut clean = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        if c == '/' && (before.is_whitespace() || "'\"`([{=<:,;".contains(before)) && !rest.starts_with("//")
        {
            let end =
                rest.find(|c: char| c.is_whitespace() || "'\"`)]}>:,;".contains(c)).unwrap_or(rest.len());
            let (path, after) = rest.split_at(end);
            let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            clean.extend(["…/", last]);
            (before, rest) = ('/', after);
            continue;
        }
        clean.push(c);
        before = c;
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    clean
}

/// A process group that is killed unless its leader has ended.
struct Group(Option<Pid>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already: as it should be.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads all there is and keeps its end.
async fn end_of(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 8 << 10]);
    // A stream that fails has ended.
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if kept.len() > 2 * OUTPUT {
            kept.drain(..kept.len() - OUTPUT);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

impl From<io::Error> for EnvironmentError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_installers_need_is_handed_on() {
        let given = [
            ("PATH", "/bin"),
            ("JWT_SECRET", "s"),
            ("PYTHONPATH", "/x"),
            ("UV_TARGET", "/x"),
            ("PIP_INDEX_URL", "https://u:p@index.example/simple"),
            ("PIP_CERT", "/ca.pem"),
        ];
        let given = given.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let installer = Installer::new("/h".into(), &EnvironmentOptions::default(), given);
        let get = |name: &str| installer.variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        assert_eq!(get("UV_DEFAULT_INDEX"), Some("https://u:p@index.example/simple".into()));
        assert_eq!(get("SSL_CERT_FILE"), Some("/ca.pem".into()));
        assert_eq!(get("PATH"), Some("/bin".into()));
        for name in ["JWT_SECRET", "PYTHONPATH", "UV_TARGET"] {
            assert_eq!(get(name), None);
        }
    }

    #[test]
    fn messages_hold_neither_secrets_nor_paths() {
        let given =
            [("UV_INDEX_MINE_PASSWORD", "hunter22"), ("UV_DEFAULT_INDEX", "https://u:p@i.example/simple/")];
        let given = given.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let installer = Installer::new("/h".into(), &EnvironmentOptions::default(), given);
        let log = installer.last_lines(
            "\nerror: https://u:p@i.example/simple/six (hunter22)\n  at `/srv/edict/env/ab/bin/python`: \
             https://t:k@other.example/x and/or file:///srv/wheels/a.whl\n",
        );
        assert_eq!(
            log,
            "error: <index>/six (***)\n  at `…/python`: https://***@other.example/x and/or …/a.whl"
        );
    }
}
