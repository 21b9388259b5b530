//! Edict: registers policies, runs them, decides what is allowed, and carries it out. One binary, server and CLI.

mod actions;
mod allocation;
mod app;
mod assets;
mod audit;
mod auth;
mod cli;
mod decisions;
mod error;
mod execution;
mod executors;
mod functions;
mod graphs;
mod health;
mod http;
mod jobs;
mod notify;
mod policies;
mod router;
mod server;
mod settings;
mod store;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Workers are started by running this program again: it sets up the sandbox and becomes the Python interpreter.
    // That must happen before anything else starts threads or opens files.
    if edict_runtime::launch::requested() {
        edict_runtime::launch::main();
    }
    // One provider of cryptography for every client in this process; that it is set already is no fault.
    rustls::crypto::ring::default_provider().install_default().ok();
    cli::main()
}

/// The known name that a misspelt one most likely means, if one is near enough.
fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let unknown = unknown.get(..64).unwrap_or(unknown);
    known
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .map(|(_, name)| name.to_owned())
}

/// A caller's text for a message: long ones are cut, control characters are spelt out.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Now, as records write it.
fn now() -> String {
    timestamp(time::OffsetDateTime::now_utc())
}

/// A time in UTC, as records write it: RFC 3339 with microseconds, so that text order is time order.
fn timestamp(time: time::OffsetDateTime) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
    );
    time.format(FORMAT).unwrap_or_default()
}

/// A duration in microseconds, as the database's own time columns are compared with.
fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Now in microseconds since 1970, as the database's own time columns hold it.
fn now_micros() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}
