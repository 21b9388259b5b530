//! A function's replicas in pods, and the calls that wait for them.

use super::pod::{Pod, Unanswered};
use crate::error::{ApiError, Code};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Calls that are sent to a pod before the first is answered. One at a time, it would be idle while an answer travels back and
/// the next call to it.
const AHEAD: usize = 2;

/// A function's replicas in pods.
///
/// A call goes to the least busy one. When all have what they can take, it waits in a bounded queue, first come, first served.
pub(super) struct Seats {
    state: Mutex<State>,
    /// Calls that may wait.
    queue: usize,
    /// How long.
    patience: Duration,
}

#[derive(Default)]
struct State {
    pods: Vec<Arc<Pod>>,
    /// Where the search for the least busy one begins.
    turn: usize,
    waiting: VecDeque<oneshot::Sender<Seat>>,
    closed: bool,
}

/// A call's place at a pod; free again when dropped.
struct Seat {
    pod: Arc<Pod>,
    seats: Arc<Seats>,
}

impl Seats {
    pub(super) fn new(queue: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), queue, patience })
    }

    /// Lets a pod take calls.
    pub(super) fn add(self: &Arc<Self>, pod: Arc<Pod>) {
        self.state().pods.push(pod);
        self.hand_out();
    }

    /// Sends a pod no more calls; those that it has go on.
    pub(super) fn remove(&self, pod: &Arc<Pod>) {
        self.state().pods.retain(|other| !Arc::ptr_eq(other, pod));
    }

    /// The pods that take calls.
    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.state().pods.clone()
    }

    /// Takes no more calls.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
    }

    /// Evaluates `input` on the least busy pod. A pod that turns out to be gone gets no more calls; this one goes on to the
    /// next.
    ///
    /// # Errors
    /// 429 when the queue is full or the wait was too long, 503 when this is closed, else what came of the call.
    pub(super) async fn call(
        self: &Arc<Self>,
        function: &str,
        input: &RawValue,
    ) -> Result<Box<RawValue>, ApiError> {
        let end = Instant::now() + self.patience;
        loop {
            let seat = self.seat(function, end).await?;
            match seat.pod.call(input).await {
                Ok(output) => return Ok(output),
                Err(Unanswered::Failed(error)) => return Err(error),
                Err(Unanswered::Untouched) => {
                    tracing::debug!(function, pod = seat.pod.name, "a pod takes no calls any more");
                    self.remove(&seat.pod);
                }
            }
        }
    }

    async fn seat(self: &Arc<Self>, function: &str, end: Instant) -> Result<Seat, ApiError> {
        let waiting = {
            let mut state = self.state();
            if state.closed {
                return Err(ApiError::new(
                    Code::FunctionUnavailable,
                    format!("function `{function}` stops here: it was removed, or its executor is stopping"),
                ));
            }
            if let Some(pod) = state.least_busy() {
                return Ok(self.take(pod));
            }
            state.waiting.retain(|waiting| !waiting.is_closed());
            if state.waiting.len() >= self.queue {
                return Err(full(function));
            }
            let (sender, waiting) = oneshot::channel();
            state.waiting.push_back(sender);
            waiting
        };
        match tokio::time::timeout(end.saturating_duration_since(Instant::now()), waiting).await {
            Ok(Ok(seat)) => Ok(seat),
            _ => Err(full(function)),
        }
    }

    fn take(self: &Arc<Self>, pod: Arc<Pod>) -> Seat {
        pod.load.fetch_add(1, Ordering::AcqRel);
        Seat { pod, seats: Arc::clone(self) }
    }

    /// Gives free places to those who wait.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let handed = {
                let mut state = self.state();
                state.waiting.retain(|waiting| !waiting.is_closed());
                if state.waiting.is_empty() {
                    return;
                }
                let Some(pod) = state.least_busy() else { return };
                let Some(waiting) = state.waiting.pop_front() else { return };
                waiting.send(self.take(pod))
            };
            // Who has just stopped waiting leaves the place to the next; giving it back hands it out.
            drop(handed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of those that have room, one with the fewest calls.
    fn least_busy(&mut self) -> Option<Arc<Pod>> {
        self.turn = self.turn.wrapping_add(1);
        let count = self.pods.len();
        let from = self.turn.checked_rem(count)?;
        let order = self.pods.iter().cycle().skip(from).take(count);
        order.filter(|pod| pod.load() < AHEAD).min_by_key(|pod| pod.load()).cloned()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pod.load.fetch_sub(1, Ordering::AcqRel);
        self.seats.hand_out();
    }
}

fn full(function: &str) -> ApiError {
    ApiError::new(
        Code::Overloaded,
        format!("the replicas of function `{function}` and its queue are full; try again, or give it more replicas"),
    )
    .retry_after(Duration::from_secs(1))
}
