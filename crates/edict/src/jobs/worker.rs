//! Takes jobs of one executor as long as it has places for them, and sees each attempt to its end.

use super::attempt::{self, Log};
use super::cluster::{self, Cluster, Outcome};
use super::lease::OWN_LEASE;
use super::metrics;
use super::source::Source;
use crate::error::{ApiError, Code};
use crate::execution::Runner;
use crate::executors::hardware::host_name;
use crate::executors::wake::{Bell, LOOK};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use edict_client::records::{AttemptEnd, AttemptLog, ClaimJobs, ClaimedJob, HeldJob};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Wait before an attempt's end is reported again.
const AGAIN: Duration = Duration::from_millis(500);

/// How often the lease is watched.
const WATCH: Duration = Duration::from_millis(250);

/// Runs the jobs of one executor in this process.
pub(crate) struct Worker {
    source: Source,
    backend: Backend,
    executor_id: String,
    /// Tells this process from its predecessors and from others that serve the same executor.
    runner_id: String,
    node_id: String,
    max_jobs: u32,
    places: Arc<Semaphore>,
    /// The jobs that are here, until their end is stored; each with what ends it.
    here: DashMap<String, Here>,
    /// Whether jobs may be waiting in the queue: who comes then must not overtake them.
    backlog: AtomicBool,
    bell: Bell,
    /// Places have become free that the queue may have jobs for.
    freed: Notify,
    stopping: AtomicBool,
    /// When the lease was last known to be good; `None` before.
    renewed: Mutex<Option<Instant>>,
}

/// What attempts are carried out with.
pub(crate) enum Backend {
    /// Processes of this machine, which end with this one.
    Processes(Arc<Runner>),
    /// Pods, which go on without it.
    Cluster(Arc<Cluster>),
}

/// Why a worker looks for jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The time has come.
    Due,
    /// Somebody says that there is something.
    Rung,
    /// A place has become free.
    Freed,
}

/// What a renewal found and the next one may confirm.
#[derive(Default)]
struct Doubts {
    /// Jobs that are here and not held.
    gone: HashSet<String>,
    /// Jobs that are held and not here.
    unknown: HashSet<HeldJob>,
}

/// A job that is here.
#[derive(Clone, Default)]
struct Here {
    /// Ends its attempt.
    ended: CancellationToken,
    /// Whether its attempt is over, and what came of it is being stored.
    over: Arc<AtomicBool>,
}

/// A place for a job that is being accepted. Dropped without having been used, it is free again.
pub(super) struct Place {
    worker: Arc<Worker>,
    job_id: String,
    here: Here,
    permit: Option<OwnedSemaphorePermit>,
}

impl Worker {
    /// `bell` wakes it, `max_jobs` is how many attempts it carries out at the same time.
    pub(crate) fn new(
        source: Source,
        backend: Backend,
        executor_id: &str,
        max_jobs: usize,
        bell: Bell,
    ) -> Arc<Self> {
        let runner_id = match &backend {
            Backend::Processes(_) => uuid::Uuid::new_v4().to_string(),
            Backend::Cluster(_) => Cluster::runner_id(executor_id),
        };
        Arc::new(Self {
            source,
            backend,
            executor_id: executor_id.to_owned(),
            runner_id,
            node_id: host_name(),
            max_jobs: u32::try_from(max_jobs).unwrap_or(u32::MAX),
            places: Arc::new(Semaphore::new(max_jobs)),
            here: DashMap::new(),
            backlog: AtomicBool::new(true),
            bell,
            freed: Notify::new(),
            stopping: AtomicBool::new(false),
            renewed: Mutex::default(),
        })
    }

    pub(super) fn runner_id(&self) -> &str {
        &self.runner_id
    }

    pub(super) fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Makes it look at the queue now.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// Ends the attempt of a job, if it is here.
    pub(super) fn kill(&self, job_id: &str) {
        if let Some(here) = self.here.get(job_id) {
            here.ended.cancel();
        }
    }

    /// Whether a job is here and its end is yet to be stored.
    pub(super) fn runs(&self, job_id: &str) -> bool {
        self.here.get(job_id).is_some_and(|here| !here.over.load(Ordering::SeqCst))
    }

    /// A place for a new job, if one is free and nobody waits for it.
    pub(super) fn place(self: &Arc<Self>, job_id: &str) -> Option<Place> {
        if self.backlog.load(Ordering::Acquire) || self.stopping.load(Ordering::Acquire) || !self.has_lease()
        {
            return None;
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.take_in(job_id, permit)
    }

    fn take_in(self: &Arc<Self>, job_id: &str, permit: OwnedSemaphorePermit) -> Option<Place> {
        match self.here.entry(job_id.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                let here = Here::default();
                free.insert(here.clone());
                Some(Place {
                    worker: Arc::clone(self),
                    job_id: job_id.to_owned(),
                    here,
                    permit: Some(permit),
                })
            }
        }
    }

    /// Says that there may be jobs in the queue.
    pub(super) fn expect_more(&self) {
        self.backlog.store(true, Ordering::Release);
    }

    /// Looks for jobs whenever it is told to, and by itself, until it is dropped.
    pub(crate) async fn work(self: Arc<Self>) {
        tokio::join!(self.look_for_jobs(), self.watch_the_lease());
    }

    async fn look_for_jobs(self: &Arc<Self>) {
        let mut rings = self.bell.listen();
        let mut doubts = Doubts::default();
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut why = Why::Due;
        loop {
            if !self.stopping.load(Ordering::Acquire)
                && let Err(error) = self.look(why, &mut doubts).await
            {
                tracing::warn!(error = error.message(), "cannot get jobs; trying again");
            }
            why = tokio::select! {
                biased;
                _ = ticks.tick() => Why::Due,
                _ = rings.changed() => Why::Rung,
                () = self.freed.notified() => Why::Freed,
            };
        }
    }

    async fn look(self: &Arc<Self>, why: Why, doubts: &mut Doubts) -> Result<(), ApiError> {
        // Whoever rings from far away may have cancelled a job, which renewing tells.
        if why == Why::Due || (why == Why::Rung && self.is_remote()) {
            self.renew(doubts).await?;
        }
        if why == Why::Freed && !self.backlog.load(Ordering::Acquire) {
            return Ok(());
        }
        self.claim().await
    }

    /// Renews the lease, ends what is no longer ours, and gives back what we do not know of.
    async fn renew(self: &Arc<Self>, doubts: &mut Doubts) -> Result<(), ApiError> {
        let began = Instant::now();
        let known: HashSet<String> = self.here.iter().map(|entry| entry.key().clone()).collect();
        let lease = self.cluster().map(|_| cluster::LEASE);
        let held = self.source.renew(&self.executor_id, &self.runner_id, lease).await?;
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
        let gone: HashSet<String> =
            known.iter().filter(|known| held.iter().all(|held| held.job_id != **known)).cloned().collect();
        let unknown: HashSet<HeldJob> =
            held.iter().filter(|held| !known.contains(&held.job_id)).cloned().collect();
        if let Some(cluster) = self.cluster() {
            let here = self.here.iter().map(|entry| entry.key().clone());
            cluster.sweep(&held.iter().map(|held| held.job_id.clone()).chain(here).collect());
        }
        // What is being accepted right now is here before it is held.
        gone.iter()
            .filter(|job| self.is_remote() || doubts.gone.contains(*job))
            .for_each(|job| self.kill(job));
        // What a reply brought that was lost on its way is held by us and not here; but so is what was accepted and
        // has ended since `known` was made: only what stays so is given back.
        for held in unknown.intersection(&doubts.unknown) {
            match self.cluster() {
                Some(cluster) => self.adopt(cluster, held).await?,
                None => {
                    tracing::warn!(job = held.job_id, "giving back a job that never arrived");
                    self.source.give_back(&self.executor_id, held.clone()).await?;
                }
            }
        }
        *doubts = Doubts { gone, unknown };
        Ok(())
    }

    /// Goes on with a job that this executor holds: its process before this one started it, or was about to.
    async fn adopt(self: &Arc<Self>, cluster: &Cluster, held: &HeldJob) -> Result<(), ApiError> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else { return Ok(()) };
        let claimed = cluster.adopt(&held.job_id).await?;
        if claimed.revision == held.revision
            && let Some(place) = self.take_in(&held.job_id, permit)
        {
            tracing::info!(job = held.job_id, "going on with a job that runs in the cluster");
            place.start(claimed);
        }
        Ok(())
    }

    fn cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.backend {
            Backend::Processes(_) => None,
            Backend::Cluster(cluster) => Some(cluster),
        }
    }

    /// Takes as many jobs as there are places.
    async fn claim(self: &Arc<Self>) -> Result<(), ApiError> {
        loop {
            let mut permits = Vec::new();
            while let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
                permits.push(permit);
            }
            if permits.is_empty() || !self.has_lease() {
                return Ok(());
            }
            // Before the question: what is added to the queue from now on sets it again.
            self.backlog.store(false, Ordering::Release);
            let claim = ClaimJobs {
                runner_id: self.runner_id.clone(),
                node_id: self.node_id.clone(),
                places: u32::try_from(permits.len()).unwrap_or(u32::MAX),
            };
            let claimed = match self.source.claim(&self.executor_id, &claim).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    self.expect_more();
                    return Err(error);
                }
            };
            let all = claimed.len() < permits.len();
            for (claimed, permit) in claimed.into_iter().zip(permits) {
                if let Some(place) = self.take_in(&claimed.job.job_id, permit) {
                    place.start(claimed);
                }
            }
            if all {
                return Ok(());
            }
            self.expect_more();
        }
    }

    /// Ends what runs here when the lease could not be renewed in time: it is about to be given to others.
    async fn watch_the_lease(&self) {
        loop {
            tokio::time::sleep(WATCH).await;
            if !self.has_lease() && !self.here.is_empty() {
                tracing::warn!("the lease on running jobs is over: ending them");
                self.here.iter().for_each(|entry| entry.value().ended.cancel());
            }
        }
    }

    fn since_renewal(&self) -> Option<Duration> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    fn has_lease(&self) -> bool {
        // Pods need none to be kept apart: an attempt's pods are ended before the next one starts.
        self.source.needs_no_lease()
            || self.cluster().is_some()
            || self.since_renewal().is_some_and(|since| since < OWN_LEASE)
    }

    fn is_remote(&self) -> bool {
        matches!(self.source, Source::Remote(_))
    }

    /// Takes no more jobs, waits up to `grace` for those that run, and gives back the rest.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.stopping.store(true, Ordering::Release);
        if self.cluster().is_some() {
            // Its jobs go on; whoever comes next finds them.
            return;
        }
        let all_free = || self.places.acquire_many(self.max_jobs);
        if tokio::time::timeout(grace, all_free()).await.is_err() {
            self.here.iter().for_each(|entry| entry.value().ended.cancel());
        }
        // Each attempt's end is being stored, or its return.
        let stored = async {
            while !self.here.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.source.leave(&self.runner_id).await
        };
        if tokio::time::timeout(OWN_LEASE, stored).await.is_err() {
            tracing::warn!("not every job's end could be stored; they will be run again");
        }
    }
}

impl Place {
    /// Runs the job that this place was taken for.
    pub(super) fn start(self, claimed: ClaimedJob) {
        metrics::started(&claimed.job);
        tokio::spawn(self.run(claimed));
    }

    async fn run(mut self, claimed: ClaimedJob) {
        let log = Log::default();
        let worker = Arc::clone(&self.worker);
        let runner = match &worker.backend {
            Backend::Processes(runner) => runner,
            Backend::Cluster(cluster) => return self.run_in(cluster, claimed).await,
        };
        let end = tokio::select! {
            biased;
            () = self.here.ended.cancelled() => None,
            end = attempt::run(runner, &worker.source, &claimed, &log) => Some(end),
        };
        // Before it is stored, so that who finds the job here still hears of its end.
        self.here.over.store(true, Ordering::SeqCst);
        // The process is gone: another may start while this one's end is being stored.
        self.free();
        let end = match end {
            None if worker.stopping.load(Ordering::Acquire) => AttemptEnd::Returned,
            // It is no longer ours: nobody wants to hear of it.
            None => return,
            Some(end) => end,
        };
        self.report(&claimed, end, || log.unsaved(&claimed)).await;
    }

    /// The same in a cluster.
    async fn run_in(mut self, cluster: &Cluster, claimed: ClaimedJob) {
        let outcome = tokio::select! {
            biased;
            () = self.here.ended.cancelled() => None,
            outcome = cluster.run(&claimed) => Some(outcome),
        };
        self.here.over.store(true, Ordering::SeqCst);
        self.free();
        match outcome {
            None => cluster.leave(&claimed.job.job_id, claimed.job.attempts).await,
            Some(Outcome::Told) => {}
            Some(Outcome::End(end, log)) => self.report(&claimed, end, || log.clone()).await,
        }
    }

    /// Stores the attempt's end, as often as it takes while the job is ours.
    async fn report(&self, claimed: &ClaimedJob, mut end: AttemptEnd, log: impl Fn() -> Option<AttemptLog>) {
        let Worker { source, executor_id, .. } = &*self.worker;
        loop {
            match source.finish(executor_id, claimed, end.clone(), log()).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(
                        job = claimed.job.job_id,
                        error = error.message(),
                        "a job's end is not stored yet"
                    );
                    if error.code() == Code::Internal {
                        // The database may refuse what it is to hold; the failure is small and plain.
                        end = AttemptEnd::Failed(super::settle::fault(error));
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
            if !self.worker.has_lease() {
                return;
            }
        }
    }

    fn free(&mut self) {
        if self.permit.take().is_some() && self.worker.backlog.load(Ordering::Acquire) {
            self.worker.freed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.free();
        self.worker.here.remove(&self.job_id);
    }
}
