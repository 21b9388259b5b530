//! One function on this executor: what calls, commands and the keeper share.

use super::edition::{Contract, Edition};
use super::journal::Journal;
use super::keeper::Surroundings;
use super::meters::Meters;
use super::pod::Pod;
use super::replica::{Body, Calls};
use super::seats::Seats;
use crate::error::{ApiError, Code};
use crate::execution::describe;
use edict_client::records::{Function, FunctionChanges, FunctionLog, RunFault};
use edict_runtime::{Fault, Limit, Pool};
use serde_json::value::RawValue;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Longest wait of a call for a replica: for the first to start, or for one that has room.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A function on this executor.
pub(crate) struct Service {
    pub(super) name: String,
    /// Tells it from a function that had its name before.
    pub(super) created_at: String,
    pub(super) calls: Calls,
    crew: Mutex<Crew>,
    /// How many replicas take calls: the crew's size, for a look without its lock.
    ready: AtomicUsize,
    /// What calls must fit.
    contract: RwLock<Arc<Contract>>,
    /// Whether it is worth waiting while no replica takes calls.
    pub(super) gate: watch::Sender<Gate>,
    /// Rings when the crew has changed.
    pub(super) joined: Notify,
    /// One management command at a time: two at once could reach the replicas in different orders.
    pub(super) managing: tokio::sync::Mutex<()>,
    /// What is wanted; none when the service is to end.
    pub(super) wanted: watch::Sender<Option<Wanted>>,
    /// Tells the keeper to look.
    pub(super) poke: Notify,
    /// Ends of replicas in a row that were their own fault, see [`super::keeper`].
    pub(super) strikes: AtomicI64,
    pub(super) journal: Journal,
    pub(super) meters: Meters,
}

/// What is wanted of a function.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) function: Arc<Function>,
}

/// The replicas that take calls, and the edition that later ones will have.
///
/// INVARIANT (current-state): a replica joins only if it was made from the edition that is current at that moment, and
/// a command that changes settings or parameters makes a new edition current in the same step in which it notes the
/// replicas that it has yet to reach. So every replica has the change: it was reached, or it was born with it.
pub(super) struct Crew {
    pub(super) edition: Arc<Edition>,
    pub(super) members: Vec<Member>,
}

/// A replica that takes calls.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) replica: Body,
    pub(super) edition: Arc<Edition>,
    /// CPU time it had used, and when: where the next measurement begins.
    pub(super) measured: (Instant, Duration),
}

/// Whether it is worth waiting for a replica.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Gate {
    Open,
    Starting,
    /// The last one that was started did not get ready.
    Failing(RunFault),
}

impl Service {
    /// A function and what its keeper works with.
    ///
    /// # Errors
    /// When the record is not valid.
    pub(super) fn new(
        function: Function,
        changes: FunctionChanges,
        around: &Surroundings,
    ) -> Result<(Arc<Self>, watch::Receiver<Option<Wanted>>), ApiError> {
        let (name, created_at) = (function.function_id.clone(), function.created_at.clone());
        let function = Arc::new(function);
        let edition = Edition::new(1, Arc::clone(&function), changes)?;
        let limit = edition.compiled.limits.timeout_ms.map_or(PATIENCE, Duration::from_millis);
        let (wanted, receiver) = watch::channel(Some(Wanted { function }));
        let patience = limit.max(PATIENCE);
        let calls = match &around.pods {
            None => Calls::Processes(Pool::new(around.queue, patience)),
            Some(pods) => Calls::Pods(Seats::new(around.queue, patience), Arc::clone(pods)),
        };
        let service = Arc::new(Self {
            meters: Meters::new(&name),
            calls,
            contract: RwLock::new(Arc::new(Contract::new(vec![Arc::clone(&edition)]))),
            crew: Mutex::new(Crew { edition, members: Vec::new() }),
            ready: AtomicUsize::new(0),
            gate: watch::Sender::new(Gate::Starting),
            joined: Notify::new(),
            managing: tokio::sync::Mutex::default(),
            wanted,
            poke: Notify::new(),
            strikes: AtomicI64::new(0),
            journal: Journal::default(),
            name,
            created_at,
        });
        Ok((service, receiver))
    }

    /// What it was told last: the revision, and the version of the changes.
    pub(super) fn knows(&self) -> (u64, u64) {
        let revision = self.wanted.borrow().as_ref().map_or(0, |wanted| wanted.function.revision);
        (revision, self.crew().edition.changes_version)
    }

    /// Takes in what is wanted from now on.
    ///
    /// # Errors
    /// When the record is not valid; then all stays as it was.
    pub(super) fn want(&self, function: Function, changes: FunctionChanges) -> Result<(), ApiError> {
        let function = Arc::new(function);
        {
            let mut crew = self.crew();
            let newer = changes.version > crew.edition.changes_version;
            if newer || !crew.edition.serves(&function) {
                crew.edition = Edition::new(crew.edition.number + 1, Arc::clone(&function), changes)?;
            }
        }
        self.wanted.send_replace(Some(Wanted { function }));
        Ok(())
    }

    /// Lets calls under way finish and takes no more.
    pub(super) fn end(&self) {
        self.wanted.send_replace(None);
    }

    /// Calls the function.
    ///
    /// # Errors
    /// See [`crate::functions::Functions::call`].
    pub(crate) async fn call(&self, input: &RawValue) -> Result<Box<RawValue>, ApiError> {
        let started = Instant::now();
        let result = self.evaluate(input).await;
        self.meters.called(started, result.as_ref().err());
        result
    }

    async fn evaluate(&self, input: &RawValue) -> Result<Box<RawValue>, ApiError> {
        let contract = self.contract();
        contract.check_input(input)?;
        if self.ready.load(Ordering::Relaxed) == 0 {
            self.pass_gate().await?;
        }
        let output = match &self.calls {
            Calls::Processes(pool) => {
                pool.call(input).await.map_err(|error| self.explain(contract.uri(), error))
            }
            Calls::Pods(seats, _) => seats.call(&self.name, input).await,
        }?;
        contract.check_output(&output).map(|()| output)
    }

    /// What a caller is told about a fault.
    pub(super) fn explain(&self, uri: &str, error: edict_runtime::RunError) -> ApiError {
        match &error.fault {
            Fault::Busy { .. } if self.ready.load(Ordering::Relaxed) == 0 => self.unavailable(),
            Fault::Busy { retry_after } => ApiError::new(
                Code::Overloaded,
                format!(
                    "the replicas of function `{}` and its queue are full; try again, or give it more replicas",
                    self.name
                ),
            )
            .retry_after(*retry_after),
            Fault::Stopping => ApiError::new(
                Code::FunctionUnavailable,
                format!("function `{}` stops here: it was removed, or its server is stopping", self.name),
            ),
            Fault::Limit(Limit::Timeout(_) | Limit::Memory(_)) => {
                // The replica is ended for what a caller asked of it: no reason to keep the next one waiting.
                self.strikes.fetch_sub(1, Ordering::Relaxed);
                self.poke.notify_one();
                describe(uri, error)
            }
            _ => describe(uri, error),
        }
    }

    /// Waits for a replica to take calls.
    pub(super) async fn pass_gate(&self) -> Result<(), ApiError> {
        let mut gate = self.gate.subscribe();
        let passed = gate.wait_for(|gate| *gate != Gate::Starting);
        match tokio::time::timeout(PATIENCE, passed).await {
            Ok(Ok(gate)) if *gate == Gate::Open => Ok(()),
            _ => Err(self.unavailable()),
        }
    }

    fn unavailable(&self) -> ApiError {
        let name = &self.name;
        match &*self.gate.borrow() {
            Gate::Failing(fault) => ApiError::new(
                Code::FunctionUnavailable,
                format!(
                    "no replica of function `{name}` takes calls, since they do not start: {}",
                    fault.message
                ),
            )
            .details(fault),
            _ => ApiError::new(
                Code::FunctionUnavailable,
                format!("no replica of function `{name}` takes calls yet; try again"),
            )
            .retry_after(Duration::from_secs(1)),
        }
    }

    /// The last lines of its replicas. A pod that does not answer has none.
    pub(crate) async fn logs(&self, limit: usize) -> Vec<FunctionLog> {
        let Calls::Pods(seats, _) = &self.calls else { return self.journal.last(limit) };
        let pods = seats.pods();
        let asked = futures::future::join_all(pods.iter().map(|pod| pod.logs(limit))).await;
        let mut lines: Vec<FunctionLog> = asked.into_iter().flatten().flatten().collect();
        lines.sort_by(|a, b| a.record.time.cmp(&b.record.time));
        lines.drain(..lines.len().saturating_sub(limit));
        lines
    }

    /// Lets a replica take calls, if it was made from the current edition.
    pub(super) fn join(&self, number: u64, replica: Body, edition: Arc<Edition>) -> bool {
        let mut crew = self.crew();
        if crew.edition.number != edition.number {
            return false;
        }
        let measured = (Instant::now(), replica.cpu().unwrap_or_default());
        crew.members.push(Member { number, replica: replica.clone(), edition, measured });
        // What calls must fit is set before the first call can reach it.
        self.agree(&crew);
        self.calls.add(replica);
        true
    }

    /// Lets a pod take calls that has the changes of management commands up to `version`; false when it lacks some. What it
    /// was made from is told by `edition`, if it is known here; a pod of an earlier edition serves until it is replaced.
    pub(super) fn join_pod(&self, pod: &Arc<Pod>, edition: Option<Arc<Edition>>, version: u64) -> bool {
        let mut crew = self.crew();
        if version < crew.edition.changes_version {
            return false;
        }
        let edition = edition.unwrap_or_else(|| Arc::clone(&crew.edition));
        let (number, replica) = (pod.number, Body::Pod(Arc::clone(pod)));
        crew.members.push(Member {
            number,
            replica: replica.clone(),
            edition,
            measured: (Instant::now(), Duration::ZERO),
        });
        self.agree(&crew);
        self.calls.add(replica);
        true
    }

    /// Takes a replica off the crew.
    pub(super) fn leave(&self, number: u64) -> Option<Body> {
        let mut crew = self.crew();
        let at = crew.members.iter().position(|member| member.number == number)?;
        let member = crew.members.remove(at);
        self.agree(&crew);
        Some(member.replica)
    }

    /// Brings what is kept beside the crew up to it.
    pub(super) fn agree(&self, crew: &Crew) {
        self.ready.store(crew.members.len(), Ordering::Relaxed);
        let mut editions: Vec<_> = crew.members.iter().map(|member| Arc::clone(&member.edition)).collect();
        if editions.is_empty() {
            editions.push(Arc::clone(&crew.edition));
        }
        let contract = Arc::new(Contract::new(editions));
        *self.contract.write().unwrap_or_else(PoisonError::into_inner) = contract;
        self.joined.notify_waiters();
    }

    fn contract(&self) -> Arc<Contract> {
        Arc::clone(&self.contract.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
