//! What verbs print: tables for people, JSON for programs, progress for those who wait at a terminal.

use super::failure::Failure;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use edict_client::records::LogRecord;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Longest text in a cell of a list.
const CELL_CHARS: usize = 60;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// The program's stdout, in the format that its caller asked for.
pub(crate) struct Output<'a> {
    format: Format,
    stdout: &'a mut dyn Write,
}

impl<'a> Output<'a> {
    pub(super) fn new(format: Format, stdout: &'a mut dyn Write) -> Self {
        Self { format, stdout }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stdout.write_all(bytes)?)
    }

    /// Prints text and a line end.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        // In one piece: two writes could leave a line without its end when the reader goes away in between.
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Prints a JSON document.
    pub(crate) fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::failed(format!("cannot print the result: {error}")))?;
        self.line(&text)
    }

    /// Prints what was done: `text` for people, `value` for programs.
    pub(crate) fn done(&mut self, text: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        if self.is_json() { self.json(value) } else { self.line(&printable(text)) }
    }

    /// Prints one record: a line per field in the order of `fields`, or JSON.
    pub(crate) fn record(&mut self, record: &impl Serialize, fields: &[&str]) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(record);
        }
        let value = serde_json::to_value(record)
            .map_err(|error| Failure::failed(format!("cannot print the record: {error}")))?;
        let mut table = Table::new();
        for name in fields {
            if let Some(value) = value.get(name).filter(|value| !is_empty(value)) {
                table.add_row([(*name).to_owned(), printable(&text_of(value))]);
            }
        }
        self.table(table)
    }

    /// Prints records as a table with these columns.
    pub(crate) fn rows(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.set_header(header.iter().copied());
        for row in rows {
            table.add_row(row.iter().map(|cell| cell_text(cell)));
        }
        self.table(table)
    }

    /// Plain columns that start at the edge: what `cut` and `awk` expect.
    fn table(&mut self, mut table: Table) -> Result<(), Failure> {
        table.load_style(presets::NOTHING);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(&table.trim_fmt())
    }

    /// Tells something beside the result: stderr, so that stdout stays what a program can read.
    pub(crate) fn aside(&self, text: &str) {
        // A note that cannot be written is no reason to fail.
        drop(writeln!(io::stderr().lock(), "{}", printable(text)));
    }
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

/// A line that a policy printed or logged, for people.
pub(crate) fn log_line(log: &LogRecord) -> String {
    printable(&format!("{} {:<8} {}: {}", log.time, log.level, log.source, log.message))
}

/// Whether somebody sees progress.
pub(crate) fn at_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A bar for `size` bytes; nothing is drawn before [`show_if_slow`] finds that the work takes long.
pub(crate) fn byte_bar(size: u64, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden())
        .with_style(style)
        .with_message(message)
}

/// A bar for a number of things, which the work sets; see [`byte_bar`].
pub(crate) fn count_bar(things: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:20} {pos}/{len} {prefix}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style).with_prefix(things)
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
