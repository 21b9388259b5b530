//! Keeps one function's Deployment as it is wanted, and lets those of its pods take calls that are ready for them.
//!
//! Kubernetes starts, replaces and scales the pods; this looks at what there is, and tells. It remembers nothing that it could
//! not find out again.

use super::edition::Edition;
use super::keeper::{Surroundings, active, report};
use super::pod::Pod;
use super::replica::{Body, Calls};
use super::service::{Gate, Service, Wanted};
use crate::error::{ApiError, Code};
use crate::executors::pods::{Pods, refusal};
use crate::functions::record;
use edict_client::records::{Function, FunctionState, FunctionStatus, ReplicaState, RunFault};
use edict_kube::{Autoscale, FunctionPods, FunctionSeen, PodSeen, Problem};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often what is wanted is compared with what there is although nothing is known to have changed.
const LOOK: Duration = Duration::from_secs(30);
/// Before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a pod that is told to go takes calls: its executor hears of it by way of the cluster.
const DRAIN: Duration = Duration::from_secs(3);
/// What calls under way get beyond their own time limit when their pod is told to go.
const GRACE: Duration = Duration::from_secs(10);
/// How long a pod may take to make its instance: the image, the requirements, the import.
const START: Duration = Duration::from_secs(600);
const PORT: u16 = 8080;

/// The keeper of a function in a cluster.
pub(super) struct DeployedKeeper {
    service: Arc<Service>,
    around: Arc<Surroundings>,
    pods: Arc<Pods>,
    receiver: watch::Receiver<Option<Wanted>>,
    wanted: Wanted,
    /// Pods that are asked what they were made from.
    asking: JoinSet<(Arc<Pod>, Result<ReplicaState, ApiError>)>,
    /// Pods that take calls or are asked, by uid.
    known: HashMap<String, Arc<Pod>>,
    /// The token of the function's pods. It stays the same for as long as there is the function.
    token: Option<String>,
    /// Editions by what pods call them.
    editions: HashMap<String, Arc<Edition>>,
    numbers: u64,
    error: Option<RunFault>,
    settled: u64,
    status: watch::Sender<FunctionStatus>,
}

impl DeployedKeeper {
    pub(super) fn new(
        service: Arc<Service>,
        around: Arc<Surroundings>,
        pods: Arc<Pods>,
        mut receiver: watch::Receiver<Option<Wanted>>,
    ) -> Self {
        let wanted = receiver.borrow_and_update().clone();
        let wanted =
            wanted.unwrap_or_else(|| Wanted { function: Arc::clone(&service.crew().edition.function) });
        Self {
            service,
            around,
            pods,
            receiver,
            wanted,
            asking: JoinSet::new(),
            known: HashMap::new(),
            token: None,
            editions: HashMap::new(),
            numbers: 0,
            error: None,
            settled: 0,
            status: watch::Sender::new(FunctionStatus::default()),
        }
    }

    /// Keeps the function until it is not wanted any more. Its objects are then removed by the fleet, unless this process
    /// is the one that goes: then another one finds them.
    pub(super) async fn keep(mut self) {
        let reporter = tokio::spawn(report(
            Arc::clone(&self.around),
            self.service.name.clone(),
            self.status.subscribe(),
        ));
        let mut changes = self.pods.workloads.changes();
        loop {
            let put = self.put().await;
            self.error = put.err().map(RunFault::from);
            let pause = if self.error.is_some() { AGAIN } else { LOOK };
            changes.borrow_and_update();
            let seen = self.pods.workloads.function(&self.service.name);
            self.follow(&seen);
            self.tell(&seen);
            tokio::select! {
                changed = self.receiver.changed() => {
                    let wanted = self.receiver.borrow_and_update().clone();
                    match (changed, wanted) {
                        (Ok(()), Some(wanted)) => self.wanted = wanted,
                        _ => break,
                    }
                }
                Some(Ok((pod, state))) = self.asking.join_next() => self.take_in(pod, state),
                _ = changes.changed() => {}
                () = self.service.poke.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        reporter.abort();
        self.service.calls.close();
        if !self.around.leaving.load(Ordering::SeqCst) {
            self.service.gate.send_replace(Gate::Starting);
            self.service.meters.replicas(0, 0);
        }
    }

    /// Brings the cluster's objects to what is wanted.
    async fn put(&mut self) -> Result<(), ApiError> {
        let function = Arc::clone(&self.wanted.function);
        let edition = record::edition(&function);
        let current = Arc::clone(&self.service.crew().edition);
        self.editions.insert(edition.clone(), current);
        let pods = self.manifest(&function, edition).await?;
        self.pods.workloads.put_function(&pods).await.map_err(|fault| refusal(&fault))
    }

    async fn manifest(&mut self, function: &Function, edition: String) -> Result<FunctionPods, ApiError> {
        let limits = self.service.crew().edition.compiled.limits.clone();
        let (name, timeout) = (function.function_id.clone(), self.pods.timeout(&limits));
        let env = |name: &str, value: String| (name.to_owned(), value);
        let token = self.token(&name).await?;
        let mut secret = self.pods.secret(token);
        secret.insert("EDICT_CALL_TOKEN".to_owned(), self.pods.call_token(&name, &function.created_at)?);
        let grace = DRAIN + timeout + GRACE;
        Ok(FunctionPods {
            edition,
            args: vec!["function".to_owned()],
            env: BTreeMap::from([
                env("EDICT_FUNCTION", name.clone()),
                env("EDICT_FUNCTION_PORT", PORT.to_string()),
                env("EDICT_DRAIN_SECONDS", DRAIN.as_secs().to_string()),
                env("EDICT_SHUTDOWN_GRACE_SECONDS", (timeout + GRACE / 2).as_secs().to_string()),
            ]),
            name,
            secret,
            node_selector: function.node_selector.clone(),
            memory_mb: self.pods.memory_mb(&limits),
            replicas: function.replicas,
            autoscale: active(function.autoscaling.as_ref()).map(|rule| Autoscale {
                min: rule.min_replicas,
                max: rule.max_replicas,
                target_percent: rule.target_cpu_utilization_percentage,
                up_window: rule.scale_up_stabilization_seconds,
                down_window: rule.scale_down_stabilization_seconds,
            }),
            grace,
            port: PORT,
            start_patience: START,
        })
    }

    async fn token(&mut self, name: &str) -> Result<String, ApiError> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let token = self.around.home.function_token(name).await?;
        self.token = Some(token.clone());
        Ok(token)
    }

    /// Asks pods that have become ready what they were made from, and lets those that are no longer take no more calls.
    fn follow(&mut self, seen: &FunctionSeen) {
        let current = record::edition(&self.wanted.function);
        self.editions
            .retain(|edition, _| *edition == current || seen.pods.iter().any(|pod| pod.edition == *edition));
        let fit = |pod: &&PodSeen| pod.ready && !pod.leaving && pod.ip.is_some();
        let fit: Vec<&PodSeen> = seen.pods.iter().filter(fit).collect();
        let uids: HashSet<&str> = fit.iter().map(|pod| pod.uid.as_str()).collect();
        let gone: Vec<Arc<Pod>> =
            self.known.values().filter(|pod| !uids.contains(pod.uid.as_str())).cloned().collect();
        for pod in gone {
            self.drop_pod(&pod);
        }
        let taking: HashSet<String> = match &self.service.calls {
            Calls::Pods(seats, _) => seats.pods().into_iter().map(|pod| pod.uid.clone()).collect(),
            Calls::Processes(_) => HashSet::new(),
        };
        for pod in fit {
            // One that did not take a connection may have been too busy for a moment: it is asked anew.
            let member =
                self.known.get(&pod.uid).filter(|known| known.asked() || taking.contains(&known.uid));
            if member.is_none() {
                self.ask(pod);
            }
        }
        if self.service.crew().members.is_empty() {
            self.service.gate.send_if_modified(|gate| {
                let open = *gate == Gate::Open;
                if open {
                    *gate = Gate::Starting;
                }
                open
            });
        }
    }

    fn ask(&mut self, seen: &PodSeen) {
        let Some(address) = seen.ip else { return };
        if let Some(old) = self.known.get(&seen.uid).cloned() {
            self.drop_pod(&old);
        }
        let function = &self.wanted.function;
        let Ok(token) = self.pods.call_token(&function.function_id, &function.created_at) else { return };
        let timeout = self.pods.timeout(&self.service.crew().edition.compiled.limits);
        self.numbers += 1;
        let at = (address, PORT);
        let pod = Pod::new(self.numbers, (&seen.name, &seen.uid), at, (&token, timeout), &self.pods.peers);
        self.known.insert(seen.uid.clone(), Arc::clone(&pod));
        self.asking.spawn(async move {
            let state = pod.state().await;
            (pod, state)
        });
    }

    fn take_in(&mut self, pod: Arc<Pod>, state: Result<ReplicaState, ApiError>) {
        pod.answered();
        // It may have gone meanwhile.
        if !self.known.contains_key(&pod.uid) {
            return;
        }
        match state {
            Ok(state) => {
                let edition = self.editions.get(&state.edition).cloned();
                if self.service.join_pod(&pod, edition, state.changes_version) {
                    self.service.gate.send_replace(Gate::Open);
                    return;
                }
                // A command came while it was being made: one that is made now has its changes.
                let calls = self.service.calls.clone();
                tokio::spawn(async move {
                    calls.retire(&Body::Pod(pod), Duration::ZERO).await;
                });
            }
            Err(error) => {
                tracing::debug!(pod = pod.name, error = error.message(), "a pod does not answer yet");
                self.known.remove(&pod.uid);
            }
        }
    }

    fn drop_pod(&mut self, pod: &Arc<Pod>) {
        self.known.remove(&pod.uid);
        self.service.leave(pod.number);
        if let Calls::Pods(seats, _) = &self.service.calls {
            seats.remove(pod);
        }
    }

    /// Puts what there is into words.
    fn tell(&mut self, seen: &FunctionSeen) {
        let function = &self.wanted.function;
        let (edition, revision) = (record::edition(function), function.revision);
        let ready = self.service.crew().members.len();
        let ready = u32::try_from(ready).unwrap_or(u32::MAX);
        let desired = match active(function.autoscaling.as_ref()) {
            Some(_) if seen.exists => seen.desired,
            _ => function.replicas,
        };
        let staying = seen.pods.iter().filter(|pod| !pod.leaving);
        let all_new = staying.clone().all(|pod| pod.edition == edition);
        let complete = seen.exists && all_new && ready == desired && staying.count() == ready as usize;
        if complete {
            self.settled = revision;
        }
        let problem = seen.problem.as_ref().or_else(|| seen.pods.iter().find_map(|pod| pod.problem.as_ref()));
        let error = self.error.clone().or_else(|| problem.filter(|_| !complete).map(fault));
        if ready == 0
            && let Some(error) = &error
        {
            self.service.gate.send_if_modified(|gate| {
                let failing = Gate::Failing(error.clone());
                std::mem::replace(gate, failing.clone()) != failing
            });
        }
        let state = match (&error, ready) {
            (None, _) if complete => FunctionState::Ready,
            (None, 0) => FunctionState::Pending,
            (Some(_), 0) => FunctionState::Failed,
            (None, _) => FunctionState::Updating,
            (Some(_), _) => FunctionState::Degraded,
        };
        self.service.meters.replicas(desired, ready);
        let status = FunctionStatus {
            state,
            revision: self.settled,
            observed_revision: revision,
            desired,
            ready,
            restarts: seen.pods.iter().map(|pod| u64::from(pod.restarts)).sum(),
            cpu_utilization_percentage: seen.cpu_percent,
            error,
        };
        self.status.send_if_modified(|last| std::mem::replace(last, status.clone()) != status);
    }
}

/// Why a pod does not serve: in the words of the replica itself, if it left any, else in Kubernetes'.
fn fault(problem: &Problem) -> RunFault {
    let told = problem.message.find('{').and_then(|at| problem.message.get(at..));
    if let Some(fault) = told.and_then(|text| serde_json::from_str::<RunFault>(text).ok()) {
        return fault;
    }
    RunFault {
        code: Code::PodFailed.as_str().to_owned(),
        message: problem.message.clone(),
        details: serde_json::Value::Null,
    }
}
