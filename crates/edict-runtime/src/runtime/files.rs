//! The runtime's own folder, and the removal of whatever a policy has left in it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::RuntimeConfig;

/// The worker's program, one file after the other.
const WORKER: &str = concat!(
    include_str!("../worker/imports.py"),
    include_str!("../worker/channel.py"),
    include_str!("../worker/context.py"),
    include_str!("../worker/policy.py"),
    include_str!("../worker/answer.py"),
    include_str!("../worker/replica.py"),
    include_str!("../worker/checker.py"),
    include_str!("../worker/logs.py"),
    include_str!("../worker/child.py"),
    include_str!("../worker/template.py"),
    include_str!("../worker/main.py"),
);

/// Compiles what comes in for the interpreter that runs this, into the file that is its argument.
const COMPILE: &str = "import sys, _frozen_importlib_external as importer; \
    code = compile(sys.stdin.buffer.read(), '/worker.py', 'exec', dont_inherit=True); \
    open(sys.argv[1], 'wb').write(importer._code_to_timestamp_pyc(code))";

/// The worker's file, compiled: a template that compiled it would keep the memory that this took, and every child
/// would copy the tables of it. Every policy's uid reads it.
pub(crate) fn worker(config: &RuntimeConfig) -> PathBuf {
    config.dir.join("worker.pyc")
}

/// Where each sandbox, in a mount namespace of its own, builds its root.
pub(crate) fn root(config: &RuntimeConfig) -> PathBuf {
    config.dir.join("root")
}

/// The temporary folders of templates without a mount namespace.
pub(crate) fn temporary(config: &RuntimeConfig) -> PathBuf {
    config.dir.join("tmp")
}

pub(crate) fn set_up(config: &RuntimeConfig) -> io::Result<()> {
    // What an earlier process left when it was killed.
    remove_tree(&temporary(config));
    fs::create_dir_all(root(config))?;
    fs::create_dir_all(temporary(config))?;
    // Replaced, not written over: templates of another runtime may be reading the old one.
    let fresh = config.dir.join(format!(".worker-{}", std::process::id()));
    compile(&config.python.executable, &fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644))?;
    fs::rename(fresh, worker(config))
}

fn compile(python: &Path, to: &Path) -> io::Result<()> {
    let mut command = Command::new(python);
    command.args(["-I", "-S", "-B", "-c", COMPILE]).arg(to);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(WORKER.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("python cannot compile the worker: {said}")))
}

pub(crate) fn clear(config: &RuntimeConfig) {
    remove_tree(&temporary(config));
}

/// Remove a folder, whatever is in it: folders without permissions, trees deeper than a path can be. Each folder
/// is moved up before it is looked into, so no path gets long. What cannot be removed is left and reported.
pub(crate) fn remove_tree(top: &Path) {
    if let Err(error) = empty(top).and_then(|()| fs::remove_dir(top))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a temporary folder could not be removed");
    }
}

fn empty(top: &Path) -> io::Result<()> {
    let open = fs::Permissions::from_mode(0o700);
    fs::set_permissions(top, open.clone())?;
    let mut count = 0_u64;
    let mut todo: Vec<PathBuf> =
        fs::read_dir(top)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    while let Some(path) = todo.pop() {
        if !path.symlink_metadata()?.is_dir() {
            fs::remove_file(&path)?;
            continue;
        }
        fs::set_permissions(&path, open.clone())?;
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                count += 1;
                let moved = top.join(format!(".removed-{count}"));
                fs::set_permissions(entry.path(), open.clone())?;
                fs::rename(entry.path(), &moved)?;
                todo.push(moved);
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(&path)?;
    }
    Ok(())
}
