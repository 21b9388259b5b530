//! The runtime: who may run, which template serves, what is kept warm.

pub(crate) mod entry;
mod files;
mod start;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use self::entry::{Entry, Kind, Subject};
pub(crate) use self::files::remove_tree;
use crate::conversation::{Conversation, frame_of};
use crate::process::Spawner;
use crate::sandbox::{Layers, SandboxReport};
use crate::{
    ClassInfo, Fault, Host, Isolation, Limits, LogRecord, LogSink, Operation, Outcome, Policy, Replica,
    RunError, RunOptions, RuntimeConfig, SourceFault, StartError, checker,
};

/// Runs policies. Made by [`Runtime::start`]; [`Runtime::stop`] ends everything that it has started.
pub struct Runtime {
    /// For what goes on after a run has been answered.
    me: Weak<Self>,
    config: RuntimeConfig,
    host: Arc<dyn Host>,
    spawner: Spawner,
    layers: Layers,
    report: SandboxReport,
    places: Semaphore,
    waiting: AtomicUsize,
    stopping: AtomicBool,
    runs: AtomicU64,
    started: AtomicU64,
    entries: Mutex<HashMap<Subject, Arc<Entry>>>,
    replicas: Mutex<Vec<Weak<Replica>>>,
    supervisors: Mutex<Vec<JoinHandle<()>>>,
}

/// What a runtime is doing, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Policies with a warm template.
    pub templates: usize,
    /// Processes of all templates, their children included.
    pub processes: usize,
    /// Runs that go on right now.
    pub running: usize,
    /// Runs that wait for their turn.
    pub waiting: usize,
    /// Runs since the start.
    pub runs: u64,
    /// Templates started since the start.
    pub templates_started: u64,
}

/// A policy whose own processes are lost between two runs gets a new template; one that loses them again is at
/// fault.
const ATTEMPTS: usize = 2;

impl Runtime {
    /// Set up `config.dir`, find out what sandbox this machine gives, and be ready to run.
    pub async fn start(config: RuntimeConfig, host: Arc<dyn Host>) -> Result<Arc<Self>, StartError> {
        let set_up = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || files::set_up(&config)).await
        };
        set_up.map_err(io::Error::other).and_then(|done| done).map_err(StartError::Folder)?;
        let spawner = Spawner::start(config.launcher.clone()).map_err(StartError::Folder)?;
        let (layers, report) = start::probe(&config, &spawner).await.map_err(StartError::Sandbox)?;
        let places = Semaphore::new(config.max_runs);
        let runtime = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            config,
            host,
            spawner,
            layers,
            report,
            places,
            waiting: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            started: AtomicU64::new(0),
            entries: Mutex::default(),
            replicas: Mutex::default(),
            supervisors: Mutex::default(),
        });
        tokio::spawn(keep_house(Arc::downgrade(&runtime)));
        Ok(runtime)
    }

    /// Run `operation` on `policy`. Dropping the future ends the run.
    pub async fn run(&self, policy: &Policy, operation: Operation) -> Result<Outcome, RunError> {
        self.run_with(policy, operation, RunOptions::default()).await
    }

    /// [`run`](Self::run), with what is special about this run.
    pub async fn run_with(
        &self,
        policy: &Policy,
        operation: Operation,
        options: RunOptions<'_>,
    ) -> Result<Outcome, RunError> {
        let _place = self.admit().await?;
        self.runs.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let asked =
            Limits { timeout: options.timeout.unwrap_or(policy.limits.timeout), ..policy.limits.clone() };
        let limits = asked.within(&self.config.caps);
        let kind = match policy.isolation {
            Isolation::Instance if !options.own_process => Kind::Instance,
            _ => Kind::Process,
        };
        let subject = Subject {
            kind,
            owner: (kind == Kind::Instance).then(|| policy.uri.clone()),
            digest: policy.digest.clone(),
            environment: policy.environment.as_ref().map(|environment| environment.digest.clone()),
            limits: limits.without_timeout(),
        };
        let request = request(&policy.uri, &operation);
        let about = About { policy: Some(policy), uri: &policy.uri, limits: &limits, sink: options.logs };
        let (result, logs) = self.converse(subject, about, &request).await?;
        match result {
            Ok(reply) => Ok(Outcome {
                result: reply.result,
                settings: reply.settings,
                parameters: reply.parameters,
                logs,
                duration: started.elapsed(),
            }),
            Err(fault) => Err(RunError { fault, logs }),
        }
    }

    /// Look at the source text of a `function.py`, without running it.
    pub async fn check_source(&self, source: &str) -> Result<ClassInfo, SourceFault> {
        let limits = checker::limits();
        let subject = Subject {
            kind: Kind::Check,
            owner: None,
            digest: String::new(),
            environment: None,
            limits: limits.without_timeout(),
        };
        let text = serde_json::json!({ "source": source }).to_string();
        let request = frame_of(b'R', &[text.as_bytes()]);
        let unchecked = |error: RunError| SourceFault::Unchecked(error.fault);
        let about = About { policy: None, uri: "", limits: &limits, sink: None };
        let (result, _) = self.converse(subject, about, &request).await.map_err(unchecked)?;
        checker::verdict(result.map_err(SourceFault::Unchecked)?.result.get())
    }

    /// Which parts of the sandbox are in force.
    #[must_use]
    pub fn sandbox_report(&self) -> &SandboxReport {
        &self.report
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let entries = self.entries();
        let templates: Vec<_> = entries.values().flat_map(|entry| entry.templates()).collect();
        Stats {
            templates: templates.len(),
            processes: templates.iter().map(|template| template.processes()).sum(),
            running: self.config.max_runs - self.places.available_permits().min(self.config.max_runs),
            waiting: self.waiting.load(Ordering::Relaxed),
            runs: self.runs.load(Ordering::Relaxed),
            templates_started: self.started.load(Ordering::Relaxed),
        }
    }

    /// Take no more runs, wait up to `grace` for those that go on, then end every process.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let all = u32::try_from(self.config.max_runs).unwrap_or(u32::MAX);
        // Those that wait for their turn are behind this in the queue, and are turned away when it closes.
        let _ = tokio::time::timeout(grace, self.places.acquire_many(all)).await;
        self.places.close();
        let entries = std::mem::take(&mut *self.entries());
        entries.values().for_each(|entry| entry.end());
        self.living().iter().for_each(|replica| replica.kill());
        // One that was about to start a template may have added its supervisor meanwhile.
        loop {
            let Some(supervisor) = self.supervisors().pop() else { break };
            let _ = supervisor.await;
        }
        files::clear(&self.config);
    }

    async fn converse(
        &self,
        subject: Subject,
        About { policy, uri, limits, sink }: About<'_>,
        request: &[u8],
    ) -> Result<(Result<crate::conversation::Reply, Fault>, Vec<LogRecord>), RunError> {
        let conversation = Conversation { host: &*self.host, uri, limits, config: &self.config, sink };
        for _ in 0..ATTEMPTS {
            let entry = self.entry(&subject);
            let lease = self.lease(&entry, policy, limits).await?;
            if let Some(child) = lease.take().await {
                self.prepare_next(&entry, policy, limits);
                return Ok(conversation.hold(child, request).await);
            }
        }
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Fault::Stopping.into());
        }
        Err(Fault::Crashed { how: "ended before the run began".to_owned() }.into())
    }

    /// A place to run in; first come, first served.
    async fn admit(&self) -> Result<SemaphorePermit<'_>, RunError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Fault::Stopping.into());
        }
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _counted = Counted::enter(&self.waiting);
        if self.waiting.load(Ordering::Relaxed) > self.config.queue {
            return Err(Fault::Busy { retry_after: Duration::from_secs(1) }.into());
        }
        self.places.acquire().await.map_err(|_| Fault::Stopping.into())
    }

    fn entry(&self, subject: &Subject) -> Arc<Entry> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(subject) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry::new(subject.clone()));
        entries.insert(subject.clone(), Arc::clone(&entry));
        entry
    }

    /// Stop templates that are too many, too long unused, or over.
    fn evict(&self) {
        self.supervisors().retain(|supervisor| !supervisor.is_finished());
        let mut entries = self.entries();
        entries.retain(|_, entry| {
            entry.relax();
            // An entry that someone else holds is in use, or about to be.
            let idle = entry.unused_for() > self.config.idle && Arc::strong_count(entry) == 1;
            if idle {
                entry.end();
            }
            !idle
        });
        let mut spare: Vec<_> =
            entries.values().filter(|entry| Arc::strong_count(entry) == 1).cloned().collect();
        spare.sort_by_key(|entry| std::cmp::Reverse(entry.unused_for()));
        let excess = entries.len().saturating_sub(self.config.max_templates);
        for entry in spare.iter().take(excess) {
            entry.end();
            entries.remove(&entry.subject);
        }
    }

    /// The caps on what policies may ask for.
    pub(crate) fn caps(&self) -> &Limits {
        &self.config.caps
    }

    pub(crate) fn result_limit(&self) -> usize {
        self.config.result_limit
    }

    pub(crate) fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host)
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.runs.fetch_add(1, Ordering::Relaxed)
    }

    /// Remember a replica, so that it ends with the runtime.
    pub(crate) fn know(&self, replica: &Arc<Replica>) {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        replicas.retain(|replica| replica.strong_count() > 0);
        replicas.push(Arc::downgrade(replica));
    }

    fn living(&self) -> Vec<Arc<Replica>> {
        let replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        replicas.iter().filter_map(Weak::upgrade).collect()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Subject, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn supervisors(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.entries().values().for_each(|entry| entry.end());
    }
}

/// What a run is about.
struct About<'a> {
    policy: Option<&'a Policy>,
    uri: &'a str,
    limits: &'a Limits,
    sink: Option<LogSink<'a>>,
}

async fn keep_house(runtime: Weak<Runtime>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let Some(runtime) = runtime.upgrade() else { return };
        runtime.evict();
    }
}

/// Counts itself while it lives, also when the one that waits gives up.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The request as a frame. The callers' JSON goes in as the text that it is.
fn request(uri: &str, operation: &Operation) -> Vec<u8> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let id = quoted(uri);
    let (op, settings, parameters, rest) = match operation {
        Operation::Eval { settings, parameters, input } => {
            ("eval", settings, parameters, [",\"input\":".to_owned(), input.get().to_owned()])
        }
        Operation::Management { settings, parameters, action, data } => {
            let action = format!(",\"action\":{},\"data\":", quoted(action));
            ("management", settings, parameters, [action, data.get().to_owned()])
        }
    };
    let [label, last] = &rest;
    let parts = [
        "{\"rule_id\":",
        &id,
        ",\"op\":\"",
        op,
        "\",\"settings\":",
        settings.get(),
        ",\"parameters\":",
        parameters.get(),
        label,
        last,
        "}",
    ];
    frame_of(b'R', &parts.map(str::as_bytes))
}
