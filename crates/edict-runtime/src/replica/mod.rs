//! A replica: one warm instance of a policy in a process of its own, called again and again.
//!
//! ```text
//! Pool ── least busy ──> Lane (sent, unanswered) ── socket ──> worker, function mode
//!   └ queue, when all are busy       driver task: writes what is new in one go, reads answers
//! ```

mod driver;
mod lane;
mod listener;
mod pool;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::Notify;

use self::lane::{Answer, Call, Lane};
pub use self::pool::{Pool, PoolStats};
use crate::conversation::{Reply, frame_of};
use crate::runtime::entry::Kind;
use crate::template::Template;
use crate::{Fault, Limits, LogRecord, Policy, RunError, Runtime};

/// Takes each line that a replica prints or logs, at the moment that it is made. Must not block.
pub type ReplicaLog = Arc<dyn Fn(&LogRecord) + Send + Sync>;

/// What an instance is made with.
pub struct Birth {
    /// `self.settings`.
    pub settings: Box<RawValue>,
    /// `self.parameters`.
    pub parameters: Box<RawValue>,
    /// The name under which its context is kept.
    pub scope: String,
    /// Where its lines go.
    pub log: ReplicaLog,
}

/// What a management command gave.
#[derive(Debug)]
pub struct Managed {
    /// What `management` returned.
    pub result: Box<RawValue>,
    /// `self.settings` after it, when it changed them.
    pub settings: Option<Box<RawValue>>,
    /// `self.parameters` after it, when it changed them.
    pub parameters: Option<Box<RawValue>>,
}

/// One warm instance. It lives until it is killed, retired from its [`Pool`], its process ends by itself, or the runtime
/// stops.
pub struct Replica {
    id: u64,
    template: Arc<Template>,
    limits: Limits,
    lane: Mutex<Lane>,
    /// Calls sent and not answered.
    load: AtomicUsize,
    /// How many may be sent ahead, see [`lane::Pace`].
    depth: AtomicUsize,
    /// The lane has something to write.
    wake: Notify,
    /// Nothing is under way any more.
    idle: Notify,
    pool: OnceLock<Weak<Pool>>,
    /// How the process ended, once nobody waits for it any more.
    over: OnceLock<String>,
    gone: Notify,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("id", &self.id).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Start a process, import the policy in it and make its instance: when this returns, it is ready for calls.
    ///
    /// # Errors
    /// What a run of the policy would end with if its import or its `__init__` fails, exceeds a limit or crashes.
    pub async fn start_replica(&self, policy: &Policy, birth: Birth) -> Result<Arc<Replica>, RunError> {
        let limits = policy.limits.within(self.caps());
        let (template, _) = self.start_template(Kind::Function, Some(policy), &limits).await?;
        let mut unborn = Unborn(Some(Arc::clone(&template)));
        let lost = || Fault::Crashed { how: "ended right after it was loaded".to_owned() };
        let child = template.take().await.ok_or_else(lost)?;
        let (mut ready, template) = child.keep().ok_or_else(lost)?;
        let Some(calls) = ready.calls.take() else {
            return Err(Fault::Internal("a replica came without its second socket".to_owned()).into());
        };
        let replica = Arc::new(Replica {
            id: self.next_number(),
            template,
            limits,
            lane: Mutex::default(),
            load: AtomicUsize::new(0),
            depth: AtomicUsize::new(1),
            wake: Notify::new(),
            idle: Notify::new(),
            pool: OnceLock::new(),
            over: OnceLock::new(),
            gone: Notify::new(),
        });
        self.know(&replica);
        tokio::spawn(driver::drive(Arc::clone(&replica), calls, self.result_limit()));
        let told = listener::Told { uri: policy.uri.clone(), scope: birth.scope, log: birth.log };
        tokio::spawn(listener::listen(Arc::clone(&replica.template), ready, self.host(), told));
        let id = serde_json::Value::from(policy.uri.as_str()).to_string();
        let parts = [
            "{\"rule_id\":",
            &id,
            ",\"settings\":",
            birth.settings.get(),
            ",\"parameters\":",
            birth.parameters.get(),
            "}",
        ];
        replica.ask(frame_of(b'B', &parts.map(str::as_bytes))).await?;
        unborn.0 = None;
        Ok(replica)
    }
}

impl Replica {
    /// Differs from that of every other replica of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its process's number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.template.pid()
    }

    /// CPU time that it and the processes under it have used so far; `None` once it has ended.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        crate::process::cpu(self.pid())
    }

    /// Send a management command. It takes its turn among the calls.
    ///
    /// # Errors
    /// As for a call.
    pub async fn manage(&self, action: &str, data: &RawValue) -> Result<Managed, RunError> {
        let action = serde_json::Value::from(action).to_string();
        let parts = ["{\"action\":", &action, ",\"data\":", data.get(), "}"];
        let answer = self.ask(frame_of(b'M', &parts.map(str::as_bytes))).await?;
        let reply: Reply = serde_json::from_slice(&answer).map_err(|_| lane::forged())?;
        Ok(Managed { result: reply.result, settings: reply.settings, parameters: reply.parameters })
    }

    /// Wait until the process has ended and the replica has left its pool; how it ended: `was killed by SIGKILL`.
    pub async fn ended(&self) -> String {
        loop {
            let gone = self.gone.notified();
            if let Some(how) = self.over.get() {
                return how.clone();
            }
            gone.await;
        }
    }

    /// End it now. Calls under way are lost, those that were only sent ahead go to other replicas.
    pub fn kill(&self) {
        self.template.kill();
    }

    async fn ask(&self, frame: Vec<u8>) -> Answer {
        let (call, answer) = Call::new(frame, false);
        if self.send(call).is_err() {
            return Err(Fault::Crashed { how: self.ended().await });
        }
        answer.await.unwrap_or(Err(Fault::Stopping))
    }

    /// Hand a call to the driver. It comes back when the replica is over.
    fn send(&self, call: Call) -> Result<(), Call> {
        let mut lane = self.lane();
        lane.push(call)?;
        self.load.store(lane.len(), Ordering::Release);
        drop(lane);
        self.wake.notify_one();
        Ok(())
    }

    /// Whether another call may be sent.
    fn has_room(&self) -> bool {
        self.load() < self.depth.load(Ordering::Relaxed)
    }

    fn load(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process of a replica whose start failed or was given up.
struct Unborn(Option<Arc<Template>>);

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(template) = &self.0 {
            template.kill();
        }
    }
}
