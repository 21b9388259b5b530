//! Sandboxed processes as the host sees them: started by one long-lived thread, ended and reaped by descriptor.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::control::Control;
use crate::launch::ARGUMENT;
use crate::sandbox::{Launched, Spec};

const REAP_PATIENCE_MS: u16 = 5000;

/// Starts launchers. One thread does it, and lives as long as the runtime: a process that is to die with its
/// parent dies with the parent's *thread* that started it, and threads of a pool come and go.
#[derive(Debug)]
pub(crate) struct Spawner {
    orders: mpsc::Sender<Order>,
}

struct Order {
    stdin: OwnedFd,
    /// The launcher hands over to a child and exits, so it is to be waited for here.
    hands_over: bool,
    done: oneshot::Sender<io::Result<Output>>,
}

/// What the template's interpreter itself prints, from its start on.
type Output = std::process::ChildStderr;

/// A template's process: the first of its PID namespace.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    handle: AsyncFd<OwnedFd>,
    /// Without a PID namespace: what it leaves is found by its session.
    sweep: bool,
}

impl Spawner {
    pub(crate) fn start(launcher: PathBuf) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let work = move || {
            for order in inbox {
                // The receiver may have given up; then the process ends by itself, its control socket being closed.
                let _ = order.done.send(spawn(&launcher, order.stdin, order.hands_over));
            }
        };
        std::thread::Builder::new().name("edict-spawner".to_owned()).spawn(work)?;
        Ok(Self { orders })
    }

    /// Start a launcher with `spec`.
    pub(crate) async fn launch(&self, spec: &Spec) -> Result<(Process, Control, Output), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (control, theirs) = Control::pair().map_err(|error| text(&error))?;
        control
            .send(&serde_json::to_vec(spec).map_err(|error| text(&error))?)
            .map_err(|error| text(&error))?;
        let (done, answer) = oneshot::channel();
        let order = Order { stdin: theirs, hands_over: spec.layers.namespaces, done };
        self.orders.send(order).map_err(|_| "the spawner thread has ended".to_owned())?;
        let output = answer.await.map_err(|error| text(&error))?.map_err(|error| text(&error))?;
        let first = control.receive().await.map_err(|error| text(&error))?;
        match serde_json::from_slice(&first.bytes) {
            Ok(Launched::Pid(pid)) => {
                let process = Process::open(pid, !spec.layers.namespaces).map_err(|error| text(&error))?;
                Ok((process, control, output))
            }
            Ok(Launched::Failed { step, error }) => Err(format!("{step}: {error}")),
            _ => Err("the launcher gave no answer; is it a program that can be one?".to_owned()),
        }
    }
}

fn spawn(launcher: &PathBuf, stdin: OwnedFd, hands_over: bool) -> io::Result<Output> {
    let mut command = Command::new(launcher);
    command
        .arg(ARGUMENT)
        .env_clear()
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .current_dir("/");
    let mut child = command.spawn()?;
    // Our copy of the socket's other end goes with the command: else its end would never be seen.
    drop(command);
    let output = child.stderr.take().ok_or_else(|| io::Error::other("no pipe"))?;
    if hands_over {
        child.wait()?;
    }
    Ok(output)
}

impl Process {
    fn open(pid: i32, sweep: bool) -> io::Result<Self> {
        // SAFETY: plain numbers; the pid is our unreaped child's, so it cannot be anyone else's.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made the descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: the descriptor is owned, never replaced, and closed only with the registration.
        Ok(Self { pid, handle: unsafe { AsyncFd::register(fd) }?, sweep })
    }

    /// End it, and all that it has started.
    pub(crate) fn kill(&self) {
        // SAFETY: plain numbers and a null pointer, which the call allows.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.handle.get_ref().as_raw_fd(),
                libc::SIGKILL,
                0,
                0,
            );
        }
    }

    /// Wait for its end, and reap it.
    pub(crate) async fn ended(&self) -> ExitStatus {
        loop {
            let Ok(mut guard) = self.handle.readable().await else {
                return ExitStatus::from_raw(libc::SIGKILL);
            };
            if let Some(status) = self.reap(WaitPidFlag::WNOHANG) {
                return status;
            }
            guard.clear_ready();
        }
    }

    fn reap(&self, flags: WaitPidFlag) -> Option<ExitStatus> {
        let raw = match waitid(Id::PIDFd(self.handle.get_ref().as_fd()), WaitPidFlag::WEXITED | flags) {
            Ok(WaitStatus::StillAlive) => return None,
            Ok(WaitStatus::Exited(_, code)) => code << 8,
            Ok(WaitStatus::Signaled(_, signal, _)) => signal as i32,
            _ => libc::SIGKILL,
        };
        // Once more until none is left: one may have been starting another while it was looked for. Dying
        // takes a moment; a process that can't (the kernel is at work for it) isn't waited for.
        for _ in 0..100 {
            if !self.sweep || sweep(self.pid) == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(ExitStatus::from_raw(raw))
    }
}

impl Drop for Process {
    /// A process that is still there must not outlive its handle. Killing a reaped one reaches nobody.
    fn drop(&mut self) {
        self.kill();
        // The handle doesn't block, so the end, milliseconds away, is waited for here.
        let mut end = [PollFd::new(self.handle.get_ref().as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut end, REAP_PATIENCE_MS);
        self.reap(WaitPidFlag::WNOHANG);
    }
}

/// Kill what is left of a session. Its processes cannot leave it (the filter denies `setsid`), and its number is
/// not reused while one of them lives. How many there were.
fn sweep(session: i32) -> usize {
    let mut count = 0;
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name, which may hold anything, in parentheses: state, parent, group, session.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let dead = matches!(fields.next(), Some("Z" | "X"));
        if !dead && fields.nth(2).and_then(|field| field.parse().ok()) == Some(session) {
            count += 1;
            // SAFETY: plain numbers.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    count
}

/// CPU time that a process and those under it have used, ended ones included.
pub(crate) fn cpu(pid: i32) -> Option<Duration> {
    /// What the kernel counts in, on every platform that Linux programs see.
    const TICKS_PER_SECOND: u32 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything, in parentheses: state, and utime, stime, cutime, cstime 11 fields later.
    let fields = stat.rsplit(')').next()?.split_whitespace().skip(11).take(4);
    let ticks: u32 = fields.filter_map(|field| field.parse::<u32>().ok()).sum();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = children.split_whitespace().filter_map(|child| cpu(child.parse().ok()?));
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND + below.sum::<Duration>())
}

/// `exited with code 3`, `was killed by SIGSEGV`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(nix::sys::signal::Signal::try_from)) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(Ok(signal))) => format!("was killed by {signal}"),
        _ => "ended".to_owned(),
    }
}
