//! One function's replicas, and the calls that wait for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;

use super::Replica;
use super::lane::{Call, forged};
use crate::conversation::frame_of;
use crate::{Fault, RunError};

/// One function's replicas, and the calls that wait for them.
///
/// A call goes to the least busy replica. When all have what they can take, it waits in a bounded queue, first come,
/// first served.
pub struct Pool {
    state: Mutex<State>,
    /// Calls that may wait.
    queue: usize,
    /// How long.
    patience: Duration,
    tickets: AtomicU64,
}

#[derive(Default)]
struct State {
    replicas: Vec<Arc<Replica>>,
    /// Where the search for the least busy one begins: without it the first would do all the work of a quiet function.
    turn: usize,
    waiting: VecDeque<(u64, Call)>,
    closed: bool,
}

/// What a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Replicas that take calls.
    pub replicas: usize,
    /// Those that are at work.
    pub busy: usize,
    /// Calls that wait in the queue.
    pub waiting: usize,
}

impl Pool {
    /// An empty pool in which `queue` calls may wait, for `patience` at most.
    #[must_use]
    pub fn new(queue: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), queue, patience, tickets: AtomicU64::new(0) })
    }

    /// Let a replica take calls. It leaves the pool when it ends.
    pub fn add(self: &Arc<Self>, replica: Arc<Replica>) {
        let _ = replica.pool.set(Arc::downgrade(self));
        let mut state = self.state();
        if state.closed {
            replica.kill();
            return;
        }
        state.replicas.push(Arc::clone(&replica));
        self.fill(&mut state, &replica);
    }

    /// Take a replica out: it gets no new calls, finishes those that it has within `grace`, and ends.
    pub async fn retire(&self, replica: &Arc<Replica>, grace: Duration) {
        self.state().replicas.retain(|other| !Arc::ptr_eq(other, replica));
        let finished = async {
            loop {
                let idle = replica.idle.notified();
                if replica.load() == 0 {
                    return;
                }
                idle.await;
            }
        };
        let _ = tokio::time::timeout(grace, finished).await;
        replica.kill();
        replica.ended().await;
    }

    /// Take no more calls; those that wait are turned away. Replicas finish what they have; retire them.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for (_, call) in state.waiting.drain(..) {
            let _ = call.waiter.send(Err(Fault::Stopping));
        }
    }

    /// Evaluate `input` on the least busy replica.
    ///
    /// # Errors
    /// [`Fault::Busy`] when the queue is full or the wait was too long; [`Fault::Crashed`] when the replica ended in the
    /// middle of this very call; otherwise what the policy made of it.
    pub async fn call(&self, input: &RawValue) -> Result<Box<RawValue>, RunError> {
        let (call, mut answer) = Call::new(frame_of(b'R', &[input.get().as_bytes()]), true);
        let answer = match self.submit(call)? {
            None => answer.await,
            Some(ticket) => match tokio::time::timeout(self.patience, &mut answer).await {
                Ok(answer) => answer,
                Err(_) if self.withdraw(ticket) => return Err(self.busy().into()),
                // It has left the queue meanwhile.
                Err(_) => answer.await,
            },
        };
        let payload = answer.unwrap_or(Err(Fault::Stopping))?;
        serde_json::from_slice(&payload).map_err(|_| forged().into())
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let state = self.state();
        let busy = state.replicas.iter().filter(|replica| replica.load() > 0).count();
        PoolStats { replicas: state.replicas.len(), busy, waiting: state.waiting.len() }
    }

    /// Send a call, or queue it under the ticket that is returned.
    fn submit(&self, mut call: Call) -> Result<Option<u64>, Fault> {
        let mut state = self.state();
        if state.closed {
            return Err(Fault::Stopping);
        }
        while let Some(replica) = state.least_busy() {
            match replica.send(call) {
                Ok(()) => return Ok(None),
                Err(back) => {
                    state.replicas.retain(|other| !Arc::ptr_eq(other, &replica));
                    call = back;
                }
            }
        }
        if state.waiting.len() >= self.queue {
            state.waiting.retain(|(_, call)| !call.waiter.is_closed());
            if state.waiting.len() >= self.queue {
                return Err(self.busy());
            }
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        state.waiting.push_back((ticket, call));
        Ok(Some(ticket))
    }

    fn withdraw(&self, ticket: u64) -> bool {
        let mut state = self.state();
        let before = state.waiting.len();
        state.waiting.retain(|(number, _)| *number != ticket);
        state.waiting.len() < before
    }

    /// Give a replica that has room what waits.
    pub(super) fn refill(&self, replica: &Arc<Replica>) {
        let mut state = self.state();
        // A retired one gets nothing more.
        if !state.waiting.is_empty() && state.replicas.iter().any(|other| Arc::ptr_eq(other, replica)) {
            self.fill(&mut state, replica);
        }
    }

    fn fill(&self, state: &mut State, replica: &Arc<Replica>) {
        while replica.has_room() {
            let Some((ticket, call)) = state.waiting.pop_front() else { return };
            if call.waiter.is_closed() {
                continue;
            }
            if let Err(call) = replica.send(call) {
                state.waiting.push_front((ticket, call));
                return;
            }
        }
    }

    /// A replica has ended; the calls that it had not begun go to others, before all that wait.
    pub(super) fn lost(&self, replica: &Arc<Replica>, calls: Vec<Call>) {
        let mut state = self.state();
        state.replicas.retain(|other| !Arc::ptr_eq(other, replica));
        for call in calls.into_iter().rev() {
            if state.closed {
                let _ = call.waiter.send(Err(Fault::Stopping));
            } else {
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                state.waiting.push_front((ticket, call));
            }
        }
        for other in state.replicas.clone() {
            self.fill(&mut state, &other);
        }
    }

    fn busy(&self) -> Fault {
        Fault::Busy { retry_after: Duration::from_secs(1) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of those that have room, one with the fewest calls.
    fn least_busy(&mut self) -> Option<Arc<Replica>> {
        self.turn = self.turn.wrapping_add(1);
        let count = self.replicas.len();
        let from = self.turn.checked_rem(count)?;
        let order = self.replicas.iter().cycle().skip(from).take(count);
        order.filter(|replica| replica.has_room()).min_by_key(|replica| replica.load()).cloned()
    }
}
