//! What stands behind a replica, and behind a function's calls: processes of this machine, or pods.

use super::pod::Pod;
use super::seats::Seats;
use crate::executors::pods::Pods;
use edict_runtime::{Pool, Replica};
use std::sync::Arc;
use std::time::Duration;

/// A replica.
#[derive(Clone)]
pub(super) enum Body {
    Process(Arc<Replica>),
    Pod(Arc<Pod>),
}

impl Body {
    /// CPU time that it has used, where this executor measures it.
    pub(super) fn cpu(&self) -> Option<Duration> {
        match self {
            Self::Process(replica) => replica.cpu(),
            Self::Pod(_) => None,
        }
    }
}

/// The replicas that take calls.
#[derive(Clone)]
pub(super) enum Calls {
    Processes(Arc<Pool>),
    Pods(Arc<Seats>, Arc<Pods>),
}

impl Calls {
    /// Lets a replica take calls.
    pub(super) fn add(&self, body: Body) {
        match (self, body) {
            (Self::Processes(pool), Body::Process(replica)) => pool.add(replica),
            (Self::Pods(seats, _), Body::Pod(pod)) => seats.add(pod),
            // An executor has either.
            _ => {}
        }
    }

    /// Takes a replica out: it gets no new calls, finishes those that it has within `grace`, and ends.
    pub(super) async fn retire(&self, body: &Body, grace: Duration) {
        match (self, body) {
            (Self::Processes(pool), Body::Process(replica)) => pool.retire(replica, grace).await,
            (Self::Pods(seats, pods), Body::Pod(pod)) => {
                seats.remove(pod);
                if let Err(error) = pods.workloads.delete_pod(&pod.name, &pod.uid).await {
                    tracing::warn!(pod = pod.name, %error, "a pod that is to be replaced cannot be removed yet");
                }
            }
            _ => {}
        }
    }

    /// Takes no more calls.
    pub(super) fn close(&self) {
        match self {
            Self::Processes(pool) => pool.close(),
            Self::Pods(seats, _) => seats.close(),
        }
    }
}
