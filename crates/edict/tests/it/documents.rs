//! The documents are true: their commands run, their outputs are what comes out, and what they say about the API, the
//! command line, the settings and the metrics is complete.
//!
//! How a fenced block is read, by its info string:
//!
//! | info string | what happens |
//! |---|---|
//! | `sh` | run by bash in the document's own folder; every command must succeed |
//! | `sh exit=4` | the same, but its last command ends with this code |
//! | `sh needs=cluster` | the same where there is a Kubernetes cluster, in a namespace of its own; skipped elsewhere |
//! | `python` | run by python3, with the SDK |
//! | `python file=PATH`, `json file=PATH`, … | written to PATH |
//! | `toml` | must be settings that `edict config` takes |
//! | `text` or `json` right after a block that was run | what it must have printed; `…` stands for any text |
//! | `… not-run="REASON"` | left out, for the reason given |
//!
//! Within `sh`, a line that is `edict serve` or `edict executor` starts a process that is there until the document
//! ends and must end well. A line with `cargo` or `pip install` is not run, but what it names must exist; what `cargo run`
//! would start is run.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod facts;
mod markdown;
mod reader;

use markdown::{Block, blocks};
use reader::Reader;
use std::fs;
use std::path::PathBuf;

/// Makes a test of each document's commands, so that they run side by side.
macro_rules! documents {
    ($($name:ident $path:literal,)*) => {
        const DOCUMENTS: &[&str] = &[$($path),*];
        $(#[test] fn $name() { run($path) })*
    };
}

documents! {
    readme "README.md",
    api "docs/api.md",
    api_design "docs/api-design.md",
    architecture "docs/architecture.md",
    changelog "CHANGELOG.md",
    cli "docs/cli.md",
    errors "docs/errors.md",
    operations "docs/operations.md",
    policies "docs/policies.md",
    sdk "docs/sdk.md",
    tutorial "docs/tutorial.md",
}

/// Blocks that may stay unrun over all documents; each says why in its info string.
const MOST_NOT_RUN: usize = 3;

/// The repository's folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn run(path: &str) {
    let text = text(path);
    let blocks = blocks(&text);
    if !blocks.iter().any(Block::is_command) {
        return;
    }
    let mut reader = Reader::start();
    let mut blocks = blocks.iter().peekable();
    while let Some(block) = blocks.next() {
        if block.reason_not_to_run().is_some() {
            continue;
        }
        if block.value("needs") == Some("cluster") && !reader.has_cluster() {
            continue;
        }
        let place = format!("{path}:{}", block.line);
        if let Some(file) = block.value("file") {
            reader.write(file, &block.text);
        } else if block.language == "toml" {
            reader.check_settings(&place, &block.text);
        } else if block.is_command() {
            let printed = reader.run(&place, block);
            if let Some(expected) = blocks.next_if(|next| next.is_output_of(block)) {
                let place = format!("{path}:{}", expected.line);
                markdown::assert_output(&place, &expected.text, &printed);
            }
        }
    }
    reader.end();
}

#[test]
fn every_document_is_tested() {
    let mut found: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    found.sort();
    let mut listed: Vec<&str> = DOCUMENTS.iter().copied().filter(|path| path.starts_with("docs/")).collect();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn blocks_that_are_not_run_say_why_and_are_few() {
    let texts = DOCUMENTS.iter().map(|path| text(path)).collect::<Vec<_>>();
    let reasons: Vec<String> = texts
        .iter()
        .flat_map(|text| blocks(text))
        .filter_map(|block| block.reason_not_to_run().map(str::to_owned))
        .collect();
    assert!(reasons.iter().all(|reason| reason.len() > 10), "{reasons:?}");
    assert!(reasons.len() <= MOST_NOT_RUN, "{reasons:?}");
}
