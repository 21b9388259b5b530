//! A function's metrics, looked up once.

use crate::error::ApiError;
use metrics::{Counter, Gauge, Histogram};
use std::time::Instant;

pub(super) struct Meters {
    function: String,
    served: Counter,
    duration: Histogram,
    pub(super) restarts: Counter,
    desired: Gauge,
    ready: Gauge,
}

impl Meters {
    pub(super) fn new(function: &str) -> Self {
        let name = || function.to_owned();
        Self {
            function: name(),
            served: metrics::counter!("edict_function_calls_total", "function" => name(), "result" => "ok"),
            duration: metrics::histogram!("edict_function_call_duration_seconds", "function" => name()),
            restarts: metrics::counter!("edict_function_restarts_total", "function" => name()),
            desired: metrics::gauge!("edict_function_replicas_desired", "function" => name()),
            ready: metrics::gauge!("edict_function_replicas_ready", "function" => name()),
        }
    }

    pub(super) fn called(&self, started: Instant, error: Option<&ApiError>) {
        match error {
            None => self.served.increment(1),
            Some(error) => {
                let (function, result) = (self.function.clone(), error.code().as_str());
                metrics::counter!("edict_function_calls_total", "function" => function, "result" => result)
                    .increment(1);
            }
        }
        self.duration.record(started.elapsed());
    }

    pub(super) fn replicas(&self, desired: u32, ready: u32) {
        self.desired.set(desired);
        self.ready.set(ready);
    }
}
