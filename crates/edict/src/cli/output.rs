//! What verbs print: tables for people, JSON for programs, progress for those who wait at a terminal.

use super::failure::Failure;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::future::Future;
use std::io::{self, Write};
use std::time::Duration;

/// Longest text in a cell of a list.
const CELL_CHARS: usize = 60;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// The program's stdout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints text and a line end.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Prints a JSON document.
    pub(crate) fn json(self, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::failed(format!("cannot print the result: {error}")))?;
        self.line(&text)
    }

    /// Prints what was done: `text` for people, `value` for programs.
    pub(crate) fn done(self, text: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        if self.is_json() { self.json(value) } else { self.line(&printable(text)) }
    }

    /// Prints one record: a line per field, or JSON.
    pub(crate) fn record(self, record: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let value = serde_json::to_value(record)
            .map_err(|error| Failure::failed(format!("cannot print the record: {error}")))?;
        let Value::Object(fields) = value else { return self.json(&value) };
        if self.is_json() {
            return self.json(&fields);
        }
        let mut table = plain_table();
        for (name, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
            table.add_row([name.clone(), printable(&text_of(value))]);
        }
        self.line(&table.trim_fmt())
    }

    /// Prints records as a table with these columns.
    pub(crate) fn rows(self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = plain_table();
        table.set_header(header.iter().copied());
        for row in rows {
            table.add_row(row.iter().map(|cell| cell_text(cell)));
        }
        self.line(&table.trim_fmt())
    }

    /// Tells something beside the result: stderr, so that stdout stays what a program can read.
    pub(crate) fn aside(self, text: &str) {
        // A note that cannot be written is no reason to fail.
        drop(writeln!(io::stderr().lock(), "{}", printable(text)));
    }
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Text as it is, everything else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_else(|_| other.to_string()),
    }
}

/// The start of a text's first line, as much as fits a cell.
fn cell_text(text: &str) -> String {
    let line = printable(text.lines().next().unwrap_or_default());
    if line.chars().count() <= CELL_CHARS {
        return line;
    }
    line.chars().take(CELL_CHARS - 1).chain(['…']).collect()
}

/// Text without control characters: a record's description must not be able to steer the reader's terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// A bar for `size` bytes; nothing is drawn before [`show_if_slow`] finds that the work takes long.
pub(crate) fn byte_bar(size: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden())
        .with_style(style)
        .with_message(message)
}

/// A bar for work of unknown length; see [`byte_bar`].
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
        .with_style(ProgressStyle::default_spinner())
        .with_message(message)
}

/// Waits for work, and shows its bar once it has taken a second (on a terminal only).
pub(crate) async fn show_if_slow<T>(bar: &ProgressBar, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(120));
    let done = work.await;
    bar.finish_and_clear();
    done
}
