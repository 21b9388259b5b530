//! Keeps one function's replicas as they are wanted: starts, replaces, scales, retires them.
//!
//! A loop that looks at what there is and what is wanted, and takes the steps from one to the other. It remembers
//! nothing that it could not find out again, so that whatever happens in between only delays.

use super::autoscale::{Autoscaler, Usage};
use super::edition::Edition;
use super::replica::Body;
use super::service::{Gate, Service, Wanted};
use crate::error::ApiError;
use crate::execution::{Home, Runner, describe};
use crate::executors::pods::Pods;
use crate::functions::{context, record};
use edict_client::records::{Autoscaling, FunctionState, FunctionStatus, RunFault};
use edict_runtime::{Birth, Fault, Replica};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Wait after the first failure; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Failures that are this long ago are forgotten.
const HEALTHY: Duration = Duration::from_secs(60);
/// What a call under way gets at most when its replica is retired, beyond its own time limit.
const GRACE: Duration = Duration::from_secs(5);
/// A function's CPU in its record is brought up to date when it has moved by so many percent of a core.
const CPU_STEP: u32 = 5;

/// What services share.
pub(super) struct Surroundings {
    pub(super) home: Arc<Home>,
    /// For an executor on Kubernetes: its pods.
    pub(super) pods: Option<Arc<Pods>>,
    /// Set when this process goes: pods stay for the next one.
    pub(super) leaving: AtomicBool,
    pub(super) runner: Arc<Runner>,
    /// A place per replica that this executor may run.
    pub(super) places: Arc<Semaphore>,
    /// How many those are.
    pub(super) most: u32,
    /// Replicas that are started at the same time.
    pub(super) starts: Arc<Semaphore>,
    /// Calls that may wait, per function.
    pub(super) queue: usize,
    /// How often the load is measured.
    pub(super) autoscale: Duration,
    /// Rung when a status has been written.
    pub(super) reports: Arc<Notify>,
}

pub(super) struct Keeper {
    service: Arc<Service>,
    around: Arc<Surroundings>,
    receiver: watch::Receiver<Option<Wanted>>,
    wanted: Wanted,
    starting: JoinSet<Started>,
    /// Editions of those that are being started.
    started: Vec<(u64, u64)>,
    endings: JoinSet<(u64, String)>,
    retiring: JoinSet<()>,
    places: Vec<OwnedSemaphorePermit>,
    /// How many replicas there should be, as far as places last.
    scale: u32,
    autoscaler: Autoscaler,
    cpu: Option<u32>,
    numbers: u64,
    last_failure: Option<Instant>,
    restarts: u64,
    error: Option<RunFault>,
    settled: u64,
    status: watch::Sender<FunctionStatus>,
}

struct Started {
    number: u64,
    edition: Arc<Edition>,
    result: Result<Arc<Replica>, ApiError>,
}

impl Keeper {
    pub(super) fn new(
        service: Arc<Service>,
        around: Arc<Surroundings>,
        mut receiver: watch::Receiver<Option<Wanted>>,
    ) -> Self {
        let wanted = receiver.borrow_and_update().clone();
        let wanted =
            wanted.unwrap_or_else(|| Wanted { function: Arc::clone(&service.crew().edition.function) });
        let function = &wanted.function;
        let scale = match active(function.autoscaling.as_ref()) {
            // Where it was before the executor was started anew.
            Some(rule) => Some(function.function_status.desired)
                .filter(|desired| (rule.min_replicas..=rule.max_replicas).contains(desired))
                .unwrap_or_else(|| record::claim(function.replicas, Some(rule))),
            None => function.replicas,
        };
        Self {
            status: watch::Sender::new(FunctionStatus::default()),
            service,
            around,
            receiver,
            wanted,
            scale,
            starting: JoinSet::new(),
            started: Vec::new(),
            endings: JoinSet::new(),
            retiring: JoinSet::new(),
            places: Vec::new(),
            autoscaler: Autoscaler::default(),
            cpu: None,
            numbers: 0,
            last_failure: None,
            restarts: 0,
            error: None,
            settled: 0,
        }
    }

    /// Keeps the replicas until none are wanted; then lets them finish what they do.
    pub(super) async fn keep(mut self) {
        let reporter = tokio::spawn(report(
            Arc::clone(&self.around),
            self.service.name.clone(),
            self.status.subscribe(),
        ));
        let mut ticks = tokio::time::interval(self.around.autoscale);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let retry = self.reconcile();
            self.tell();
            let pause = tokio::time::sleep(retry.unwrap_or(HEALTHY));
            tokio::select! {
                changed = self.receiver.changed() => {
                    let wanted = self.receiver.borrow_and_update().clone();
                    match (changed, wanted) {
                        (Ok(()), Some(wanted)) => self.turn_to(wanted),
                        _ => break,
                    }
                }
                Some(Ok(started)) = self.starting.join_next() => self.take_in(started),
                Some(Ok((number, how))) = self.endings.join_next() => self.lost(number, how),
                Some(_) = self.retiring.join_next() => {}
                () = self.service.poke.notified() => {}
                _ = ticks.tick() => self.measure(),
                () = pause => {}
            }
        }
        reporter.abort();
        self.close().await;
    }

    /// Lets every replica finish what it does.
    async fn close(mut self) {
        self.starting.shutdown().await;
        self.service.calls.close();
        self.service.gate.send_replace(Gate::Starting);
        let members = std::mem::take(&mut self.service.crew().members);
        for member in members {
            self.retire(member.replica);
        }
        while self.retiring.join_next().await.is_some() {}
        self.service.meters.replicas(0, 0);
    }

    /// A changed record: a new edition gets a fresh start.
    fn turn_to(&mut self, wanted: Wanted) {
        let (old, new) = (&self.wanted.function, &wanted.function);
        let (rule, was) = (active(new.autoscaling.as_ref()), active(old.autoscaling.as_ref()));
        self.scale = match rule {
            None => new.replicas,
            Some(rule) if new.replicas != old.replicas => record::claim(new.replicas, Some(rule)),
            Some(rule) => self.scale.clamp(rule.min_replicas, rule.max_replicas),
        };
        if rule != was {
            self.autoscaler = Autoscaler::default();
            self.cpu = None;
        }
        self.forget_failures();
        self.wanted = wanted;
    }

    fn forget_failures(&mut self) {
        self.service.strikes.store(0, Ordering::Relaxed);
        self.last_failure = None;
        self.error = None;
        if self.service.crew().members.is_empty() {
            self.service.gate.send_replace(Gate::Starting);
        }
    }

    /// Takes the steps that can be taken now. Returns when to look again, if a step has to wait.
    fn reconcile(&mut self) -> Option<Duration> {
        let wanted = self.hold_places();
        let (current, outdated, edition) = self.count();
        if self.starting.is_empty() {
            self.started.clear();
        }
        let starting = self.started.iter().filter(|(_, number)| *number == edition.number).count();
        // As many old ones stay as new ones are missing.
        for _ in 0..outdated.saturating_sub(wanted.saturating_sub(current)) {
            self.shrink(|member, number| member != number);
        }
        for _ in 0..current.saturating_sub(wanted) {
            self.shrink(|member, number| member == number);
        }
        let (current, outdated, _) = self.count();
        // One more than wanted while old ones are replaced, so that there are never fewer.
        let room = (wanted + usize::from(outdated > 0)).saturating_sub(current + outdated + starting);
        let missing = wanted.saturating_sub(current + starting).min(room);
        if missing == 0 {
            return None;
        }
        let wait = self.penance();
        if !wait.is_zero() {
            return Some(wait);
        }
        for _ in 0..missing {
            self.start(&edition);
        }
        None
    }

    /// Replicas of the current edition, of others, and the current edition.
    fn count(&self) -> (usize, usize, Arc<Edition>) {
        let crew = self.service.crew();
        let edition = Arc::clone(&crew.edition);
        let current = crew.members.iter().filter(|member| member.edition.number == edition.number).count();
        (current, crew.members.len() - current, edition)
    }

    /// Retires the newest replica for whose edition this holds.
    fn shrink(&mut self, which: impl Fn(u64, u64) -> bool) {
        let number = {
            let crew = self.service.crew();
            let current = crew.edition.number;
            crew.members
                .iter()
                .rev()
                .find(|member| which(member.edition.number, current))
                .map(|member| member.number)
        };
        if let Some(replica) = number.and_then(|number| self.service.leave(number)) {
            self.retire(replica);
        }
    }

    fn retire(&mut self, replica: Body) {
        let calls = self.service.calls.clone();
        let limit = self.service.crew().edition.compiled.limits.timeout_ms;
        let grace = limit.map_or(Duration::from_secs(30), Duration::from_millis) + GRACE;
        self.retiring.spawn(async move { calls.retire(&replica, grace).await });
    }

    /// Holds a place for each wanted replica, as far as there are any. Returns how many there are.
    fn hold_places(&mut self) -> usize {
        let wanted = self.scale as usize;
        self.places.truncate(wanted);
        while self.places.len() < wanted {
            let Ok(place) = Arc::clone(&self.around.places).try_acquire_owned() else { break };
            self.places.push(place);
        }
        self.places.len()
    }

    /// How long to wait yet before another start.
    ///
    /// Each end that a replica's own fault was is a strike; one that a caller's limit caused is taken back by the call
    /// that exceeded it, which may happen before or after.
    fn penance(&self) -> Duration {
        let Some(last) = self.last_failure else { return Duration::ZERO };
        let strikes = u32::try_from(self.service.strikes.load(Ordering::Relaxed)).unwrap_or_default();
        let Some(doublings) = strikes.checked_sub(1) else { return Duration::ZERO };
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_DELAY);
        delay.saturating_sub(last.elapsed())
    }

    fn failed(&mut self, fault: RunFault) {
        if self.last_failure.is_none_or(|last| last.elapsed() > HEALTHY) {
            self.service.strikes.store(0, Ordering::Relaxed);
        }
        self.service.strikes.fetch_add(1, Ordering::Relaxed);
        self.last_failure = Some(Instant::now());
        self.error = Some(fault);
    }

    fn start(&mut self, edition: &Arc<Edition>) {
        self.numbers += 1;
        let (number, edition) = (self.numbers, Arc::clone(edition));
        self.started.push((number, edition.number));
        let (service, around) = (Arc::clone(&self.service), Arc::clone(&self.around));
        self.starting.spawn(async move {
            let _turn = around.starts.acquire().await;
            let result = bear(&service, &around, number, &edition).await;
            Started { number, edition, result }
        });
    }

    fn take_in(&mut self, Started { number, edition, result }: Started) {
        self.started.retain(|(started, _)| *started != number);
        match result {
            Ok(replica) => {
                if !self.service.join(number, Body::Process(Arc::clone(&replica)), edition) {
                    // What it was made from has been overtaken meanwhile.
                    replica.kill();
                    return;
                }
                self.endings.spawn(async move { (number, replica.ended().await) });
                self.service.gate.send_replace(Gate::Open);
            }
            Err(error) if edition.number == self.service.crew().edition.number => {
                tracing::warn!(
                    function = self.service.name,
                    error = error.message(),
                    "a replica did not start"
                );
                let fault = RunFault::from(error);
                self.failed(fault.clone());
                if self.service.crew().members.is_empty() {
                    self.service.gate.send_replace(Gate::Failing(fault));
                }
            }
            Err(_) => {}
        }
    }

    /// A replica has ended; nothing to be done about one that was retired.
    fn lost(&mut self, number: u64, how: String) {
        if self.service.leave(number).is_none() {
            return;
        }
        let name = self.service.name.as_str();
        tracing::warn!(function = name, replica = number, how, "a replica ended by itself and is replaced");
        self.restarts += 1;
        self.service.meters.restarts.increment(1);
        let uri = self.service.crew().edition.compiled.uri.clone();
        self.failed(describe(&uri, Fault::Crashed { how }.into()).into());
        if self.service.crew().members.is_empty() {
            self.service.gate.send_replace(Gate::Starting);
        }
    }

    /// Measures the load, and follows it.
    fn measure(&mut self) {
        let Some(rule) = active(self.wanted.function.autoscaling.as_ref()).cloned() else { return };
        let now = Instant::now();
        let mut usage = Usage::default();
        for member in &mut self.service.crew().members {
            let (then, before) = member.measured;
            let elapsed = now.duration_since(then);
            let Some(used) = member.replica.cpu() else { continue };
            if elapsed >= self.around.autoscale / 2 {
                let share = used.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64();
                usage.replicas.push(share * 100.0);
                member.measured = (now, used);
            }
        }
        usage.missing = self.scale.saturating_sub(u32::try_from(usage.replicas.len()).unwrap_or(u32::MAX));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred percent")]
        let cpu = usage.average().map(|average| average.round() as u32);
        let moved = match (cpu, self.cpu) {
            (Some(new), Some(old)) => new.abs_diff(old) >= CPU_STEP,
            (new, old) => new != old,
        };
        if moved {
            self.cpu = cpu;
        }
        let decided = self.autoscaler.decide(now, &rule, self.scale, &usage);
        if decided != self.scale {
            let (name, from) = (self.service.name.as_str(), self.scale);
            tracing::info!(function = name, from, to = decided, cpu, "the load has changed");
            self.scale = decided;
        }
    }

    /// Puts what there is into words.
    fn tell(&mut self) {
        let (current, outdated, _) = self.count();
        let ready = u32::try_from(current + outdated).unwrap_or(u32::MAX);
        let granted = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let revision = self.wanted.function.revision;
        let complete = outdated == 0 && current == self.places.len() && granted > 0;
        if complete {
            self.settled = revision;
            self.error = None;
        }
        if granted < self.scale {
            self.error = Some(self.crowded(granted));
        }
        let state = match (&self.error, ready) {
            (None, _) if complete => FunctionState::Ready,
            (None, 0) => FunctionState::Pending,
            (Some(_), 0) => FunctionState::Failed,
            (None, _) => FunctionState::Updating,
            (Some(_), _) => FunctionState::Degraded,
        };
        self.service.meters.replicas(self.scale, ready);
        let status = FunctionStatus {
            state,
            revision: self.settled,
            observed_revision: revision,
            desired: self.scale,
            ready,
            restarts: self.restarts,
            cpu_utilization_percentage: self.cpu,
            error: self.error.clone(),
        };
        self.status.send_if_modified(|last| std::mem::replace(last, status) != *last);
    }

    fn crowded(&self, granted: u32) -> RunFault {
        let (scale, most) = (self.scale, self.around.most);
        RunFault {
            code: crate::error::Code::NoExecutorFits.as_str().to_owned(),
            message: format!(
                "{scale} replicas are wanted and {granted} of them have a place: this executor runs at most {most} \
                 (`max_replicas`), those of other functions included"
            ),
            details: serde_json::Value::Null,
        }
    }
}

/// The rule, if it is in force.
pub(super) fn active(rule: Option<&Autoscaling>) -> Option<&Autoscaling> {
    rule.filter(|rule| rule.enabled)
}

/// Makes a replica: code and environment if they are not there yet, a process, the import, the instance.
async fn bear(
    service: &Arc<Service>,
    around: &Surroundings,
    number: u64,
    edition: &Edition,
) -> Result<Arc<Replica>, ApiError> {
    let compiled = &edition.compiled;
    let digest = compiled.digest.clone().unwrap_or_default();
    let code = around.home.function_code(&service.name, &digest);
    let tools = &around.runner.tools;
    let prepared = compiled.prepared.get_or_try_init(|| tools.prepare(compiled, &digest, code)).await?;
    // The journal lives as long as the service; the other way round, a replica would keep its own service alive.
    let journal = Arc::downgrade(service);
    let birth = Birth {
        settings: compiled.settings.with(None, &compiled.uri)?,
        parameters: compiled.parameters.with(None, &compiled.uri)?,
        scope: context::scope(&service.name),
        log: Arc::new(move |record| {
            if let Some(service) = journal.upgrade() {
                service.journal.add(number, record);
            }
        }),
    };
    let born = tools.runtime.start_replica(prepared, birth).await;
    born.map_err(|error| describe(&compiled.uri, error))
}

/// Writes a status whenever it has changed, the latest one only.
pub(super) async fn report(
    around: Arc<Surroundings>,
    name: String,
    mut status: watch::Receiver<FunctionStatus>,
) {
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().clone();
        match around.home.report_function(&name, &now).await {
            Ok(()) => around.reports.notify_waiters(),
            Err(error) if error.code() == crate::error::Code::FunctionNotFound => {}
            Err(error) => {
                tracing::warn!(
                    function = name,
                    error = error.message(),
                    "the status was not taken, trying again"
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
                status.mark_changed();
            }
        }
    }
}
