//! Starting templates, and finding out what sandbox they can have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::{Entry, Kind, Lease};
use super::{Runtime, files};
use crate::conversation::fault_of;
use crate::process::Spawner;
use crate::sandbox::{self, CODE, FIRST_UID, Launched, Layers, SandboxReport, Spec, TMP, WORKER};
use crate::template::{Files, Loaded, Template, Use};
use crate::{Fault, Limit, Limits, Policy, RunError, RuntimeConfig};

/// Temporary folders beyond one per possible run: for children made ahead, and those not cleared away yet.
const SPARE_SLOTS: usize = 24;

impl Runtime {
    /// A template that has loaded the policy: a warm one, or a new one.
    pub(super) async fn lease(
        &self,
        entry: &Arc<Entry>,
        policy: Option<&Policy>,
        limits: &Limits,
    ) -> Result<Lease, RunError> {
        if let Some(lease) = entry.lease() {
            return Ok(lease);
        }
        let _starting = entry.starting.lock().await;
        if let Some(lease) = entry.lease() {
            return Ok(lease);
        }
        let (template, solo) = self.start_template(entry.subject.kind, policy, limits).await?;
        if !entry.keep(&template, solo) {
            return Err(Fault::Stopping.into());
        }
        entry
            .lease()
            .ok_or_else(|| Fault::Crashed { how: "ended right after it was loaded".to_owned() }.into())
    }

    /// For a module with threads: the next run's process starts while this one's runs.
    pub(super) fn prepare_next(&self, entry: &Arc<Entry>, policy: Option<&Policy>, limits: &Limits) {
        let (Some(policy), Some(me)) = (policy, self.me.upgrade()) else { return };
        if !entry.wants_spare() {
            return;
        }
        let (entry, policy, limits) = (Arc::clone(entry), policy.clone(), limits.clone());
        let work = tokio::spawn(async move {
            let _starting = entry.starting.lock().await;
            if entry.wants_spare()
                && let Ok((template, solo)) =
                    me.start_template(entry.subject.kind, Some(&policy), &limits).await
            {
                entry.keep(&template, solo);
            }
        });
        self.supervisors().push(work);
    }

    pub(crate) async fn start_template(
        &self,
        kind: Kind,
        policy: Option<&Policy>,
        limits: &Limits,
    ) -> Result<(Arc<Template>, bool), RunError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Fault::Stopping.into());
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let internal = |error: String| RunError::from(Fault::Internal(error));
        let plan = Plan::new(&self.config, self.layers, number, kind, policy, limits);
        let files = plan.make_folders().map_err(|error| internal(format!("temporary folders: {error}")))?;
        let (process, control, output) = self.spawner.launch(&plan.spec).await.map_err(internal)?;
        let usage = match kind {
            Kind::Process => Use::Once,
            Kind::Instance => Use::Again(std::thread::available_parallelism().map_or(1, usize::from)),
            Kind::Check => Use::Again(1),
            Kind::Function => Use::Itself,
        };
        let template = Template::new(process, control, usage, files);
        let guard = Unfinished(Some(Arc::clone(&template)));
        let config = plan.worker_config(kind, limits, &self.config).map_err(internal)?;
        let loaded = tokio::time::timeout(limits.timeout, template.load(config.as_bytes())).await;
        let uri = policy.map_or("", |policy| policy.uri.as_str());
        let logs = printed(output, self.config.log_limit, &|record| self.host.log(uri, record));
        let fault = match loaded {
            Ok(Loaded::Yes { solo }) => {
                guard.finish();
                let supervisor = tokio::spawn(Arc::clone(&template).supervise());
                self.supervisors().push(supervisor);
                template.prepare(solo);
                return Ok((template, solo));
            }
            Ok(Loaded::No(wire)) => fault_of(wire, limits, self.config.result_limit),
            Ok(Loaded::Ended(how)) => {
                let message = format!("the process {how} during the import");
                Fault::Load { kind: "Exited".to_owned(), message, traceback: Vec::new() }
            }
            Err(_) => Fault::Limit(Limit::Timeout(limits.timeout)),
        };
        Err(RunError { fault, logs })
    }
}

/// What the interpreter or the policy's import printed, as far as it has arrived.
fn printed(
    output: std::process::ChildStderr,
    keep: usize,
    show: &dyn Fn(&crate::LogRecord),
) -> Vec<crate::LogRecord> {
    let mut logs = crate::logs::Logs::new(keep);
    let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
    if nix::fcntl::fcntl(&output, flags).is_ok() {
        let mut buffer = [0; 8192];
        while let Ok(size @ 1..) = nix::unistd::read(&output, &mut buffer) {
            logs.output(crate::logs::Stream::Stderr, buffer.get(..size).unwrap_or_default(), show);
        }
    }
    logs.finish(show)
}

/// Ends a template whose start didn't get to its end: a fault, or a caller that went away.
struct Unfinished(Option<Arc<Template>>);

impl Unfinished {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(template) = self.0.take() {
            template.kill();
        }
    }
}

/// How one template is to be started.
struct Plan {
    spec: Spec,
    code: String,
    slots: Vec<PathBuf>,
}

impl Plan {
    fn new(
        config: &RuntimeConfig,
        layers: Layers,
        number: u64,
        kind: Kind,
        policy: Option<&Policy>,
        limits: &Limits,
    ) -> Self {
        let environment = policy.and_then(|policy| policy.environment.as_deref());
        let code = policy.map(|policy| policy.code.path.clone());
        let worker = files::worker(config);
        let parent = if layers.namespaces {
            PathBuf::from(TMP)
        } else {
            files::temporary(config).join(number.to_string())
        };
        let slots = if kind == Kind::Function { 1 } else { config.max_runs + SPARE_SLOTS };
        let slots = (0..slots).map(|slot| parent.join(slot.to_string())).collect::<Vec<_>>();
        let mut binds: Vec<_> = config.python.roots.iter().map(|root| (root.clone(), root.clone())).collect();
        binds.extend(environment.map(|environment| (environment.path.clone(), environment.path.clone())));
        binds.extend(code.iter().map(|code| (code.clone(), PathBuf::from(CODE))));
        binds.push((worker.clone(), PathBuf::from(WORKER)));
        binds.retain(|(from, to)| from != to || !from.starts_with("/usr"));
        let python = environment.map_or(&config.python.executable, |environment| &environment.python);
        // An environment's packages are found by `site`, which nothing else needs.
        let options: &[&str] = if environment.is_some() { &["-I", "-B"] } else { &["-I", "-S", "-B"] };
        let inside = if layers.namespaces { Path::new(WORKER) } else { &worker };
        let mut argv = vec![python.display().to_string()];
        argv.extend(options.iter().chain(&["-X", "utf8"]).map(|option| (*option).to_owned()));
        argv.push(inside.display().to_string());
        let code =
            if layers.namespaces { CODE.to_owned() } else { code.unwrap_or_default().display().to_string() };
        let spec = Spec {
            layers,
            probe: false,
            uid: FIRST_UID + (number % 100_000) as u32,
            binds,
            scratch: if layers.namespaces { files::root(config) } else { parent },
            slots: slots.len(),
            slot_mb: config.tmp_mb,
            network: limits.network && kind != Kind::Check,
            argv,
        };
        Self { spec, code, slots }
    }

    /// Without a mount namespace the temporary folders are the host's to make and to remove.
    fn make_folders(&self) -> std::io::Result<Option<Files>> {
        if self.spec.layers.namespaces {
            return Ok(None);
        }
        let files = Files(self.spec.scratch.clone());
        for slot in &self.slots {
            std::fs::create_dir_all(slot)?;
        }
        Ok(Some(files))
    }

    fn worker_config(&self, kind: Kind, limits: &Limits, config: &RuntimeConfig) -> Result<String, String> {
        let filter = if self.spec.layers.run_namespaces { None } else { Some(sandbox::run_filter()?) };
        let value = serde_json::json!({
            "mode": kind.name(),
            "code": self.code,
            "slots": self.slots,
            "memory": limits.memory_mb << 20,
            "cpu_seconds": limits.cpu_seconds,
            "processes": limits.processes.max(1),
            "result_limit": config.result_limit,
            "run_namespaces": self.spec.layers.run_namespaces,
            "own_uid": self.spec.layers.own_uid,
            "clone": libc::SYS_clone,
            "run_filter": filter.as_ref().map(|filter| hex::encode(&filter.code)),
            "run_filter_pid": filter.as_ref().map(|filter| hex::encode(filter.pid)),
        });
        Ok(value.to_string())
    }
}

/// Try the sandbox, from the most that there can be downwards.
pub(super) async fn probe(
    config: &RuntimeConfig,
    spawner: &Spawner,
) -> Result<(Layers, SandboxReport), String> {
    let root = nix::unistd::getuid().is_root();
    let all =
        Layers { namespaces: true, proc: true, user_namespace: !root, own_uid: root, run_namespaces: false };
    let bare = Layers {
        namespaces: false,
        proc: false,
        user_namespace: false,
        own_uid: false,
        run_namespaces: false,
    };
    let candidates = [
        all,
        Layers { proc: false, ..all },
        Layers { own_uid: false, ..all },
        Layers { own_uid: false, proc: false, ..all },
        bare,
    ];
    let mut notes = Vec::new();
    for layers in candidates.into_iter().filter(|layers| config.namespaces || !layers.namespaces) {
        match try_layers(config, spawner, layers).await {
            Ok(run_namespaces) => {
                let layers = Layers { run_namespaces: run_namespaces && layers.namespaces, ..layers };
                return Ok((layers, report(config, layers, notes)));
            }
            Err(error) if layers.namespaces => notes.push(error),
            Err(error) => return Err(error),
        }
    }
    Err("no kind of sandbox can be built".to_owned())
}

async fn try_layers(config: &RuntimeConfig, spawner: &Spawner, layers: Layers) -> Result<bool, String> {
    let limits = Limits::default();
    let mut plan = Plan::new(config, layers, 0, Kind::Check, None, &limits);
    plan.spec.probe = true;
    plan.spec.slots = 1;
    let _files = plan.make_folders().map_err(|error| error.to_string())?;
    let (_process, control, _output) = spawner.launch(&plan.spec).await?;
    let answer = control.receive().await.map_err(|error| error.to_string())?;
    match serde_json::from_slice(&answer.bytes) {
        Ok(Launched::Probed { run_namespaces }) => Ok(run_namespaces),
        Ok(Launched::Failed { step, error }) => Err(format!("{step}: {error}")),
        _ => Err("the launcher ended without an answer".to_owned()),
    }
}

fn report(config: &RuntimeConfig, layers: Layers, errors: Vec<String>) -> SandboxReport {
    let mut notes: Vec<String> = errors.into_iter().map(|error| format!("namespaces: {error}")).collect();
    let mut note = |missing: bool, text: &str| {
        if missing {
            notes.push(text.to_owned());
        }
    };
    note(!config.namespaces, "namespaces are switched off by configuration");
    note(!layers.namespaces, "without namespaces only landlock guards the files");
    note(
        layers.namespaces && !layers.proc,
        "without a private /proc some libraries cannot read facts about themselves",
    );
    note(!layers.run_namespaces, "without namespaces per run a policy can start threads but no processes");
    let abi = sandbox::landlock_abi();
    note(abi == 0, "the kernel has no landlock");
    note(abi == 0 && !layers.namespaces, "policies can read and write whatever this program's user can");
    SandboxReport {
        namespaces: layers.namespaces,
        user_namespace: layers.namespaces && layers.user_namespace,
        private_proc: layers.proc,
        run_namespaces: layers.run_namespaces,
        own_uid: layers.own_uid,
        landlock_abi: abi,
        seccomp: true,
        notes,
    }
}
