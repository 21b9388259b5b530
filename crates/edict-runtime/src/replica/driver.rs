//! Moves frames between a replica's lane and its socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::Replica;
use super::lane::{Pace, forged};
use super::pool::Pool;
use crate::conversation::{FRAME_SLACK, HEADER, fault_of_wire, header};
use crate::process::describe;
use crate::{Fault, Limit};

/// Serves the lane until the replica is over; then sees to it that nobody waits in vain.
pub(super) async fn drive(replica: Arc<Replica>, mut socket: UnixStream, result_limit: usize) {
    let mut out = Out::default();
    let mut answers = Answers {
        replica: &replica,
        buffer: BytesMut::with_capacity(16 << 10),
        result_limit,
        pace: Pace::new(),
    };
    let why = converse(&replica, &mut socket, &mut out, &mut answers).await;
    replica.kill();
    let how = describe(replica.template.ended().await);
    let fault = match why {
        End::Closed => Fault::Crashed { how: how.clone() },
        End::Fault(fault) => fault,
    };
    let (casualty, others) = replica.lane().end(out.left());
    if let Some(casualty) = casualty {
        let _ = casualty.waiter.send(Err(fault.clone()));
    }
    let (movable, bound): (Vec<_>, Vec<_>) = others.into_iter().partition(|call| call.movable);
    for call in bound {
        let _ = call.waiter.send(Err(fault.clone()));
    }
    if let Some(pool) = replica.pool.get().and_then(std::sync::Weak::upgrade) {
        pool.lost(&replica, movable);
    }
    replica.load.store(0, Ordering::Release);
    replica.idle.notify_waiters();
    let _ = replica.over.set(how);
    replica.gone.notify_waiters();
}

/// Why a replica is over.
enum End {
    /// It closed the socket: it has ended, or will.
    Closed,
    Fault(Fault),
}

async fn converse(
    replica: &Arc<Replica>,
    socket: &mut UnixStream,
    out: &mut Out,
    answers: &mut Answers<'_>,
) -> End {
    let (mut reader, mut writer) = socket.split();
    let limit = replica.limits.timeout;
    let deadline = sleep_until(Instant::now() + limit);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            biased;
            size = reader.read_buf(&mut answers.buffer) => match size {
                Ok(1..) => if let Err(fault) = answers.take() {
                    return End::Fault(fault);
                },
                _ => return End::Closed,
            },
            size = writer.write(out.unwritten()), if out.left() > 0 => match size {
                Ok(size) => out.wrote(size),
                Err(_) => return End::Closed,
            },
            () = replica.wake.notified() => {
                // Others that are about to call get their turn first: then one write carries all their calls.
                tokio::task::yield_now().await;
                replica.lane().take(&mut out.bytes);
                match writer.try_write(out.unwritten()) {
                    Ok(size) => out.wrote(size),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return End::Closed,
                }
            }
            // Set anew only when it rings: resetting it with each call would cost more than it does.
            () = &mut deadline => {
                let due = replica.lane().oldest_since().unwrap_or_else(Instant::now) + limit;
                if due <= Instant::now() {
                    return End::Fault(Fault::Limit(Limit::Timeout(limit)));
                }
                deadline.as_mut().reset(due);
            }
        }
    }
}

/// Bytes on their way out.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    written: usize,
}

impl Out {
    fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn wrote(&mut self, size: usize) {
        self.written += size;
        if self.left() == 0 {
            self.bytes.clear();
            self.bytes.shrink_to(1 << 20);
            self.written = 0;
        }
    }
}

/// Answers as they come in.
struct Answers<'a> {
    replica: &'a Arc<Replica>,
    buffer: BytesMut,
    result_limit: usize,
    pace: Pace,
}

impl Answers<'_> {
    /// Hands each answer that is complete to its caller, and new calls to the replica.
    fn take(&mut self) -> Result<(), Fault> {
        let mut took = None;
        while let Some((kind, payload)) = self.next()? {
            let answer =
                match kind {
                    b'D' => Ok(payload),
                    b'E' => Err(fault_of_wire(&payload, &self.replica.limits, self.result_limit)
                        .ok_or_else(forged)?),
                    _ => return Err(forged()),
                };
            let mut lane = self.replica.lane();
            let (call, time) = lane.answered(Instant::now()).ok_or_else(forged)?;
            self.replica.load.store(lane.len(), Ordering::Release);
            drop(lane);
            took = Some(time);
            self.replica.depth.store(self.pace.after(time), Ordering::Relaxed);
            // Memory that ran out may have left the process in any state.
            let broken = match &answer {
                Err(fault @ Fault::Limit(Limit::Memory(_))) => Some(fault.clone()),
                _ => None,
            };
            // The caller may have given up.
            let _ = call.waiter.send(answer);
            if let Some(fault) = broken {
                return Err(fault);
            }
        }
        if took.is_some() {
            if let Some(pool) = self.replica.pool.get().and_then(std::sync::Weak::upgrade) {
                Pool::refill(&pool, self.replica);
            }
            if self.replica.load() == 0 {
                self.replica.idle.notify_waiters();
            }
        }
        Ok(())
    }

    /// The next complete frame.
    fn next(&mut self) -> Result<Option<(u8, bytes::Bytes)>, Fault> {
        let Some((kind, size)) = header(&self.buffer) else { return Ok(None) };
        if size > self.result_limit + FRAME_SLACK {
            return Err(forged());
        }
        if self.buffer.len() < HEADER + size {
            self.buffer.reserve(HEADER + size);
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        Ok(Some((kind, self.buffer.split_to(size).freeze())))
    }
}
