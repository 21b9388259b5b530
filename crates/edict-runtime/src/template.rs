//! A template: the process that has imported a policy, and the children that it has made ahead.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};

use crate::control::{Control, Packet};
use crate::process::{Process, describe};

/// A template that is asked for a child, or how one ended, answers within this time, or is broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Children kept ready even when nobody has had to wait.
const READY: usize = 2;
/// And at most, however many have.
const READY_MOST: usize = 8;

/// A fault as the worker reports it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WireFault {
    pub(crate) fault: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) traceback: Vec<String>,
}

/// How the import went.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// It can run; with `solo` it has threads, so it cannot be forked and serves one run itself.
    Yes { solo: bool },
    /// The policy's own fault.
    No(WireFault),
    /// The process ended during the import.
    Ended(String),
}

/// How a child ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) cpu: Duration,
}

/// How children are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Use {
    /// One run each.
    #[default]
    Once,
    /// Run after run, at most this many children.
    Again(usize),
    /// The template is its only child: it has threads, which a forked copy would lack.
    Itself,
}

/// A template's handle. Its supervisor holds one until the process has ended.
#[derive(Debug)]
pub(crate) struct Template {
    process: Process,
    control: Control,
    state: Mutex<State>,
    /// Told when the process has ended.
    gone: Notify,
    _files: Option<Files>,
}

#[derive(Debug, Default)]
struct State {
    usage: Use,
    ready: VecDeque<Ready>,
    waiting: VecDeque<oneshot::Sender<Ready>>,
    /// Ordered and not there yet.
    making: usize,
    /// Children in use.
    busy: usize,
    next: u64,
    ahead: usize,
    ending: HashMap<u64, oneshot::Sender<Ended>>,
    /// How the process ended, once it has.
    over: Option<ExitStatus>,
    last_wait: Option<Instant>,
}

/// A child's descriptors, registered with the event loop already: that too is work done ahead.
#[derive(Debug)]
pub(crate) struct Ready {
    number: u64,
    pub(crate) socket: UnixStream,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    /// A replica's second socket.
    pub(crate) calls: Option<UnixStream>,
}

/// A child in use. Dropped, it is ended, whatever it is doing, and replaced.
#[derive(Debug)]
pub(crate) struct Child {
    ready: Option<Ready>,
    template: Arc<Template>,
}

/// A folder in which a template's temporary folders are, removed with it.
#[derive(Debug)]
pub(crate) struct Files(pub(crate) PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        crate::runtime::remove_tree(&self.0);
    }
}

impl Template {
    pub(crate) fn new(process: Process, control: Control, usage: Use, files: Option<Files>) -> Arc<Self> {
        let state = Mutex::new(State { usage, ahead: READY, ..State::default() });
        Arc::new(Self { process, control, state, gone: Notify::new(), _files: files })
    }

    /// Send the worker its configuration, and wait until it has imported the policy.
    pub(crate) async fn load(&self, config: &[u8]) -> Loaded {
        if let Err(error) = self.control.send(config) {
            return Loaded::Ended(error.to_string());
        }
        let packet = self.control.receive().await.map(|packet| packet.bytes).unwrap_or_default();
        match packet.split_first() {
            Some((b'L', text)) => match serde_json::from_slice::<LoadedReply>(text) {
                Ok(reply) => return Loaded::Yes { solo: reply.solo },
                Err(error) => tracing::debug!(%error, "a worker's reply is malformed"),
            },
            Some((b'X', text)) => match serde_json::from_slice(text) {
                Ok(fault) => return Loaded::No(fault),
                Err(error) => tracing::debug!(%error, "a worker's reply is malformed"),
            },
            Some(_) => match serde_json::from_slice(&packet) {
                Ok(crate::sandbox::Launched::Failed { step, error }) => {
                    return Loaded::Ended(format!("{step}: {error}"));
                }
                _ => tracing::debug!("a worker's reply is malformed"),
            },
            None => return Loaded::Ended(describe(self.process.ended().await)),
        }
        Loaded::Ended("broke the protocol".to_owned())
    }

    /// Look after the process until it ends: take in its children, hear how they end, reap it.
    pub(crate) async fn supervise(self: Arc<Self>) {
        let mut ended = None;
        let reason = loop {
            tokio::select! {
                biased;
                packet = self.control.receive() => match packet {
                    Ok(packet) if !packet.bytes.is_empty() => {
                        if let Err(reason) = self.take_in(packet) {
                            break reason;
                        }
                    }
                    // Closed: the process is ending, or has become the run itself, or a policy has closed it.
                    _ if self.state().usage == Use::Itself => {
                        let status = *ended.insert(self.process.ended().await);
                        break describe(status);
                    }
                    _ => break "closed its control socket".to_owned(),
                },
                status = self.process.ended() => break describe(*ended.insert(status)),
            }
        };
        self.process.kill();
        let status = match ended {
            Some(status) => status,
            None => self.process.ended().await,
        };
        let mut state = self.state();
        if state.usage == Use::Itself {
            for (_, waiter) in state.ending.drain() {
                let _ = waiter.send(Ended { status, cpu: Duration::ZERO });
            }
        }
        tracing::debug!(pid = self.process.pid, reason, "a template has ended");
        state.over = Some(status);
        state.waiting.clear();
        state.ending.clear();
        state.ready.clear();
        drop(state);
        self.gone.notify_waiters();
    }

    /// Wait for the process's end; how it ended.
    pub(crate) async fn ended(&self) -> ExitStatus {
        loop {
            let gone = self.gone.notified();
            if let Some(status) = self.state().over {
                return status;
            }
            gone.await;
        }
    }

    /// The process's number on the host.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid
    }

    fn take_in(&self, packet: Packet) -> Result<(), String> {
        let malformed = || "broke the protocol".to_owned();
        let text = std::str::from_utf8(&packet.bytes).map_err(|_| malformed())?;
        let (kind, rest) = text.split_at_checked(1).ok_or_else(malformed)?;
        let mut numbers = rest.split(' ').map(str::parse::<u64>);
        let mut number = || numbers.next().and_then(Result::ok).ok_or_else(malformed);
        match kind {
            "H" => {
                let ready = Ready::new(number()?, packet.fds).map_err(|error| error.to_string())?;
                let mut state = self.state();
                state.making = state.making.checked_sub(1).ok_or_else(malformed)?;
                self.give(&mut state, ready);
                Ok(())
            }
            "E" => {
                let (number, status, cpu) = (number()?, number()?, number()?);
                if let Some(waiter) = self.state().ending.remove(&number) {
                    let status = std::os::unix::process::ExitStatusExt::from_raw(status as i32);
                    let _ = waiter.send(Ended { status, cpu: Duration::from_millis(cpu) });
                }
                Ok(())
            }
            "N" => Err(format!(
                "could not start a process: {}",
                std::io::Error::from_raw_os_error(number().and(number())? as i32)
            )),
            _ => Err(malformed()),
        }
    }

    /// To the one that has waited longest, or on the shelf.
    fn give(&self, state: &mut State, mut ready: Ready) {
        while let Some(waiter) = state.waiting.pop_front() {
            match waiter.send(ready) {
                Ok(()) => {
                    state.busy += 1;
                    return;
                }
                Err(back) => ready = back,
            }
        }
        state.ready.push_back(ready);
    }

    /// A child, at once when one is ready. `None` when the template is over.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<Child> {
        let waiter = {
            let mut state = self.state();
            if state.over.is_some() {
                return None;
            }
            let ready = match state.usage {
                // The one that was used last has its memory in the caches.
                Use::Again(_) => state.ready.pop_back(),
                Use::Once | Use::Itself => state.ready.pop_front(),
            };
            if let Some(ready) = ready {
                state.busy += 1;
                return Some(Child { ready: Some(ready), template: Arc::clone(self) });
            }
            state.last_wait = Some(Instant::now());
            state.ahead = (state.ahead + 1).min(READY_MOST);
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            self.order(&mut state, String::new());
            receiver
        };
        match tokio::time::timeout(PATIENCE, waiter).await {
            Ok(Ok(ready)) => Some(Child { ready: Some(ready), template: Arc::clone(self) }),
            Ok(Err(_)) => None,
            Err(_) => {
                tracing::warn!(pid = self.process.pid, "a template makes no children; it is replaced");
                self.kill();
                None
            }
        }
    }

    /// Order as many children as are missing, in one message with what else there is to say.
    fn order(&self, state: &mut State, mut words: String) {
        let there = state.ready.len() + state.making;
        let wanted = match state.usage {
            Use::Once => (state.waiting.len() + state.ahead).saturating_sub(there),
            Use::Again(most) => {
                let missing = state.waiting.len().saturating_sub(there);
                missing.min(most.saturating_sub(there + state.busy))
            }
            Use::Itself => usize::from(state.next == 0),
        };
        for _ in 0..wanted {
            state.next += 1;
            state.making += 1;
            words.push_str(&format!("F{} ", state.next));
        }
        if !words.is_empty() && self.control.send(words.as_bytes()).is_err() {
            self.process.kill();
        }
    }

    /// Make the first children, before anyone asks. `solo`: the template is to serve as the only one.
    pub(crate) fn prepare(&self, solo: bool) {
        let mut state = self.state();
        if solo {
            state.usage = Use::Itself;
        }
        self.order(&mut state, String::new());
    }

    /// A child that has served its run (or must end). `report`: whoever wants to know how it ended.
    fn end(&self, number: u64, report: Option<oneshot::Sender<Ended>>) {
        let mut state = self.state();
        state.busy = state.busy.saturating_sub(1);
        let word = if report.is_some() { 'Q' } else { 'D' };
        match (report, state.over) {
            (Some(sender), None) => drop(state.ending.insert(number, sender)),
            (Some(sender), Some(status)) if state.usage == Use::Itself => {
                let _ = sender.send(Ended { status, cpu: Duration::ZERO });
            }
            _ => {}
        }
        match state.usage {
            // It no longer listens; its supervisor reports.
            Use::Itself => self.process.kill(),
            _ => self.order(&mut state, format!("{word}{number} ")),
        }
    }

    /// End the process and everything under it; the supervisor reaps.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().over.is_some()
    }

    /// Runs that go on right now, or wait for a child.
    pub(crate) fn active(&self) -> usize {
        let state = self.state();
        state.busy + state.waiting.len()
    }

    /// Processes: the template and its children.
    pub(crate) fn processes(&self) -> usize {
        let state = self.state();
        if state.over.is_some() { 0 } else { 1 + state.busy + state.ready.len() + state.making }
    }

    /// Keep fewer children ready when nobody has had to wait for a while.
    pub(crate) fn relax(&self) {
        let mut state = self.state();
        let quiet = state.last_wait.is_none_or(|at| at.elapsed() > Duration::from_secs(5));
        if quiet && state.ahead > READY && state.usage == Use::Once {
            state.ahead -= 1;
            let spare = if state.ready.len() > state.ahead { state.ready.pop_front() } else { None };
            if let Some(ready) = spare {
                let word = format!("D{} ", ready.number);
                self.order(&mut state, word);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct LoadedReply {
    solo: bool,
}

impl Ready {
    fn new(number: u64, fds: Vec<OwnedFd>) -> std::io::Result<Self> {
        for fd in &fds {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        }
        let mut fds = fds.into_iter();
        let (Some(socket), Some(stdout), Some(stderr), calls, None) =
            (fds.next(), fds.next(), fds.next(), fds.next(), fds.next())
        else {
            return Err(std::io::Error::other("broke the protocol"));
        };
        Ok(Self {
            number,
            calls: calls.map(|calls| UnixStream::from_std(calls.into())).transpose()?,
            socket: UnixStream::from_std(socket.into())?,
            stdout: pipe::Receiver::from_owned_fd(stdout)?,
            stderr: pipe::Receiver::from_owned_fd(stderr)?,
        })
    }
}

impl Child {
    pub(crate) fn io(&mut self) -> Option<&mut Ready> {
        self.ready.as_mut()
    }

    /// Its descriptors and its template, for one that is used for as long as it lives. Whoever takes them kills the
    /// template in the end.
    pub(crate) fn keep(mut self) -> Option<(Ready, Arc<Template>)> {
        Some((self.ready.take()?, Arc::clone(&self.template)))
    }

    /// End it and hear how it ended; `None` when its template couldn't say.
    pub(crate) async fn end(mut self) -> Option<Ended> {
        let ready = self.ready.take()?;
        let (sender, receiver) = oneshot::channel();
        self.template.end(ready.number, Some(sender));
        match tokio::time::timeout(PATIENCE, receiver).await {
            Ok(ended) => ended.ok(),
            Err(_) => {
                self.template.kill();
                None
            }
        }
    }

    /// It has answered: use it again if its kind allows, else end it.
    pub(crate) fn done(mut self) {
        let mut state = self.template.state();
        if !matches!(state.usage, Use::Again(_)) {
            drop(state);
            return;
        }
        if let Some(ready) = self.ready.take() {
            state.busy = state.busy.saturating_sub(1);
            self.template.give(&mut state, ready);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(ready) = self.ready.take() {
            self.template.end(ready.number, None);
        }
    }
}
