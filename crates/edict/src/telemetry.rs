//! Logs and metrics.

use crate::settings::{LogFormat, Settings};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Bounds in seconds, from what a warm run takes to what the longest one may.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

/// Sends log lines to stderr.
///
/// # Errors
/// When `log_level` is not valid.
pub(crate) fn start_logging(settings: &Settings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log_level).map_err(|error| {
        format!("setting `log_level`: {error}; use for example `info` or `info,edict=debug`")
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Starts to collect metrics. Once per process.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .install_recorder()?;
    metrics::describe_histogram!(
        "edict_http_request_duration_seconds",
        "Time to answer requests, by route and status"
    );
    metrics::describe_counter!(
        "edict_policy_runs_total",
        "Runs of policies, by policy, operation and result"
    );
    metrics::describe_histogram!(
        "edict_policy_run_duration_seconds",
        "Duration of runs, by policy and operation"
    );
    metrics::describe_gauge!("edict_executor_warm_policies", "Policies kept warm in memory");
    metrics::describe_gauge!("edict_executor_processes", "Worker processes");
    metrics::describe_gauge!("edict_executor_runs_active", "Runs being carried out");
    metrics::describe_gauge!("edict_executor_runs_queued", "Runs waiting for a free place");
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
