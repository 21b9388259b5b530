//! The launcher: this program, started once more by the host, that builds the sandbox around itself and then
//! becomes the policy's Python.
//!
//! ```text
//! host ── spawns ──> launcher ── clone(parent: the host) ──> first process of the sandbox ── exec ──> python worker.pyc
//!                        └ answers with the pid, exits
//! ```
//!
//! The sandbox's first process is the host's own child, so no process of the launcher has to stay and wait for
//! it, and its pid cannot be taken by another before the host has reaped it. It dies with the host, by the
//! kernel's hand ([`libc::PR_SET_PDEATHSIG`]), and with it everything in its PID namespace.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{MsgFlags, recv, send};

use crate::sandbox::{self, Launched, Spec};

/// The argument that asks a program for its launcher.
pub(crate) const ARGUMENT: &str = "__edict_launch__";
const CONTROL: RawFd = 3;
const SPEC_LIMIT: usize = 1 << 18;

/// Whether this process was started to be the launcher. Ask first thing in `main`, while there is one thread.
#[must_use]
pub fn requested() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// Be the launcher; never returns. The control socket is standard input.
pub fn main() -> ! {
    let (step, error) = match launch() {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    tell(&Launched::Failed { step, error });
    std::process::exit(1)
}

type Failure = (String, String);

fn launch() -> Result<Infallible, Failure> {
    take_control_socket().map_err(at("control socket"))?;
    let spec = read_spec()?;
    die_with_host().map_err(at("binding to the host"))?;
    if spec.layers.user_namespace && spec.layers.namespaces {
        sandbox::enter_user_namespace().map_err(at("user namespace"))?;
    }
    if spec.layers.namespaces {
        use nix::sched::CloneFlags as F;
        nix::sched::unshare(F::CLONE_NEWNS | F::CLONE_NEWPID | F::CLONE_NEWIPC | F::CLONE_NEWUTS)
            .map_err(at("namespaces"))?;
        continue_in_child().map_err(at("first process of the sandbox"))?;
        die_with_host().map_err(at("binding to the host"))?;
    } else {
        tell(&Launched::Pid(nix::unistd::getpid().as_raw()));
    }
    // A session of its own: no terminal, and the tag that leftovers are found by without a PID namespace.
    nix::unistd::setsid().map_err(at("session"))?;
    enter_sandbox(&spec)?;
    if spec.probe {
        tell(&Launched::Probed { run_namespaces: sandbox::clone_run_works() });
        std::process::exit(0);
    }
    let (argv, environment) = command(&spec).map_err(at("command line"))?;
    let Some(program) = argv.first() else { return Err(at("command line")("empty")) };
    nix::unistd::execve(program, &argv, &environment).map_err(at("starting python"))
}

fn enter_sandbox(spec: &Spec) -> Result<(), Failure> {
    let owner = if spec.layers.own_uid { spec.uid } else { nix::unistd::getuid().as_raw() };
    let (read, tmp) = if spec.layers.namespaces {
        sandbox::build_root(spec, owner).map_err(|(step, error)| (step.to_owned(), error.to_string()))?;
        (vec![PathBuf::from("/")], PathBuf::from(sandbox::TMP))
    } else {
        let shared = spec.binds.iter().map(|(from, _)| from.clone());
        (
            sandbox::system_paths().into_iter().chain(shared).filter(|path| path.exists()).collect(),
            spec.scratch.clone(),
        )
    };
    let write = sandbox::slots(&tmp, spec.slots);
    sandbox::drop_privileges(spec.layers.own_uid.then_some(spec.uid)).map_err(at("dropping privileges"))?;
    // A change of uid takes the order to die with the host back.
    die_with_host().map_err(at("binding to the host"))?;
    sandbox::limit_resources(spec.slot_mb).map_err(at("resource limits"))?;
    sandbox::restrict_files(&read, &write).map_err(at("landlock"))?;
    sandbox::apply_filters(spec.network, !spec.layers.namespaces).map_err(at("seccomp"))
}

/// The control socket becomes descriptor 3, `/dev/null` standard input; everything else that the host may have
/// had open is closed.
fn take_control_socket() -> nix::Result<()> {
    // SAFETY: plain descriptor numbers; this process has one thread and owns nothing beyond 0, 1 and 2.
    unsafe {
        if libc::dup2(0, CONTROL) < 0
            || libc::syscall(libc::SYS_close_range, CONTROL + 1, libc::c_uint::MAX, 0) < 0
        {
            return Err(nix::Error::last());
        }
    }
    let null = std::fs::File::open("/dev/null").map_err(|_| nix::Error::ENOENT)?;
    // SAFETY: both descriptors are open; 0 is this process's to replace.
    nix::Error::result(unsafe { libc::dup2(null.as_raw_fd(), 0) }).map(drop)
}

fn read_spec() -> Result<Spec, Failure> {
    let mut buffer = vec![0; SPEC_LIMIT];
    let size = recv(CONTROL, &mut buffer, MsgFlags::empty()).map_err(at("reading the order"))?;
    serde_json::from_slice(buffer.get(..size).unwrap_or_default()).map_err(at("reading the order"))
}

/// SIGKILL when the host's thread that started us ends. It may have ended before this call: then the control
/// socket is closed, and the worker ends when it reads its configuration.
fn die_with_host() -> nix::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
}

/// Go on in a child that is the first process of the new PID namespace and whose parent is the host; this
/// process says so and exits. The child waits for that: the host reads who it is before what it has to say.
fn continue_in_child() -> nix::Result<()> {
    let (told, telling) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: without CLONE_VM the child continues on a copy, like fork; this process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) };
    match nix::Error::result(pid)? {
        0 => {
            drop(telling);
            // Nothing is ever written: the other end closes when that process exits.
            nix::unistd::read(&told, &mut [0]).map(drop)
        }
        pid => {
            tell(&Launched::Pid(pid as i32));
            // SAFETY: ends this process without running what the child will run.
            unsafe { libc::_exit(0) }
        }
    }
}

fn command(spec: &Spec) -> Result<(Vec<CString>, Vec<CString>), std::ffi::NulError> {
    let argv = spec.argv.iter().map(|part| CString::new(part.as_str())).collect::<Result<_, _>>()?;
    let environment = ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/tmp", "TMPDIR=/tmp"];
    Ok((argv, environment.into_iter().map(CString::new).collect::<Result<_, _>>()?))
}

fn tell(message: &Launched) {
    let Ok(text) = serde_json::to_vec(message) else { return };
    // When the host is gone there is nobody to tell.
    let _ = send(CONTROL, &text, MsgFlags::MSG_NOSIGNAL);
}

fn at<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> Failure {
    move |error| (step.to_owned(), error.to_string())
}
