//! What has been sent to a replica and is not answered yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Fault;

/// A replica's answer to one call: JSON text, as yet unchecked, or why there is none.
pub(super) type Answer = Result<Bytes, Fault>;

/// A call on its way.
pub(super) struct Call {
    /// The whole frame. Kept until the answer is there: the call may have to go to another replica.
    pub(super) frame: Vec<u8>,
    /// Any replica may answer it.
    pub(super) movable: bool,
    pub(super) waiter: oneshot::Sender<Answer>,
}

impl Call {
    pub(super) fn new(frame: Vec<u8>, movable: bool) -> (Self, oneshot::Receiver<Answer>) {
        let (waiter, answer) = oneshot::channel();
        (Self { frame, movable, waiter }, answer)
    }
}

/// The calls of one replica, oldest first.
///
/// INVARIANT (one-casualty): a replica answers in order and each answer leaves before the next call begins. So when it
/// ends, at most the oldest call that is unanswered had begun, and only if its frame had left: that one is lost; all
/// others can go elsewhere without being carried out twice.
#[derive(Default)]
pub(super) struct Lane {
    calls: VecDeque<Call>,
    /// How many, from the end, the driver has not taken yet.
    untaken: usize,
    /// When the oldest became the oldest.
    since: Option<Instant>,
    over: bool,
}

impl Lane {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn push(&mut self, call: Call) -> Result<(), Call> {
        if self.over {
            return Err(call);
        }
        if self.calls.is_empty() {
            self.since = Some(Instant::now());
        }
        self.calls.push_back(call);
        self.untaken += 1;
        Ok(())
    }

    /// Append the frames that are new to `out`.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) {
        let from = self.calls.len().saturating_sub(self.untaken);
        for call in self.calls.iter().skip(from) {
            out.extend_from_slice(&call.frame);
        }
        self.untaken = 0;
    }

    /// The oldest call has been answered; it and how long it was the oldest.
    pub(super) fn answered(&mut self, now: Instant) -> Option<(Call, Duration)> {
        if self.calls.len() <= self.untaken {
            return None;
        }
        let call = self.calls.pop_front()?;
        let since = self.since.replace(now).unwrap_or(now);
        Some((call, now.saturating_duration_since(since)))
    }

    /// When the oldest call became the oldest.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        self.since.filter(|_| !self.calls.is_empty())
    }

    /// The replica is over: all that was not answered. `unwritten`: bytes taken by the driver that have not left.
    pub(super) fn end(&mut self, unwritten: usize) -> (Option<Call>, Vec<Call>) {
        self.over = true;
        let taken = self.calls.len().saturating_sub(self.untaken);
        let length: usize = self.calls.iter().take(taken).map(|call| call.frame.len()).sum();
        let begun = length > unwritten;
        let casualty = if begun { self.calls.pop_front() } else { None };
        (casualty, self.calls.drain(..).collect())
    }
}

/// How many calls may be sent ahead.
///
/// One at a time, the replica would be idle while an answer travels back and the next call to it. That matters for
/// calls of microseconds only; for them, what is sent ahead waits no longer than [`Pace::AHEAD`]. A policy whose calls
/// take longer gets one at a time, so that no call waits behind another one while a replica is free.
pub(super) struct Pace {
    microseconds: f64,
}

impl Pace {
    const AHEAD: Duration = Duration::from_millis(1);
    const MOST: f64 = 32.0;

    pub(super) fn new() -> Self {
        Self { microseconds: Self::AHEAD.as_secs_f64() * 1e6 }
    }

    /// Takes in how long a call took; how many may be sent ahead now.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and MOST")]
    pub(super) fn after(&mut self, took: Duration) -> usize {
        self.microseconds += (took.as_secs_f64() * 1e6 - self.microseconds) / 8.0;
        (Self::AHEAD.as_secs_f64() * 1e6 / self.microseconds.max(1.0)).clamp(1.0, Self::MOST) as usize
    }
}

/// What a replica sends that no worker sends.
pub(super) fn forged() -> Fault {
    Fault::Crashed { how: "wrote to its own connection to the host".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(bytes: usize) -> Call {
        Call::new(vec![0; bytes], true).0
    }

    #[test]
    fn only_the_oldest_call_whose_frame_has_left_is_lost() {
        for (unwritten, lost) in [(0, true), (5, true), (29, true), (30, false)] {
            let mut lane = Lane::default();
            for _ in 0..3 {
                assert!(lane.push(call(10)).is_ok());
            }
            lane.take(&mut Vec::new());
            assert!(lane.push(call(10)).is_ok());
            let (casualty, others) = lane.end(unwritten);
            assert_eq!((casualty.is_some(), others.len()), (lost, if lost { 3 } else { 4 }), "{unwritten}");
            assert!(lane.push(call(1)).is_err());
        }
    }

    #[test]
    fn an_answer_to_a_call_that_was_not_sent_is_none() {
        let mut lane = Lane::default();
        assert!(lane.push(call(10)).is_ok());
        assert!(lane.answered(Instant::now()).is_none());
        lane.take(&mut Vec::new());
        assert!(lane.answered(Instant::now()).is_some());
    }

    #[test]
    fn only_short_calls_are_sent_ahead() {
        let mut pace = Pace::new();
        assert_eq!(pace.after(Duration::from_millis(20)), 1);
        let short = (0..100).map(|_| pace.after(Duration::from_micros(10))).last();
        assert_eq!(short, Some(32));
        assert_eq!(pace.after(Duration::from_secs(1)), 1);
    }
}
