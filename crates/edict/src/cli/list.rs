//! What every `list` takes, and how every list is printed.

use super::failure::Failure;
use super::json;
use super::output::{Output, text_of};
use clap::Args;
use edict_client::records::Object;
use edict_client::{Listing, Page};
use serde_json::Value;

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Mongo-style filter: JSON, @file, or - for stdin
    #[arg(long, default_value = "{}", hide_default_value = true, value_name = "JSON")]
    query: String,
    /// At most so many
    #[arg(long)]
    limit: Option<u64>,
    /// Leave out so many first
    #[arg(long)]
    skip: Option<u64>,
    /// Fields to sort by, `-` in front for descending: `--sort=-updated_at,name`
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, value_name = "FIELDS")]
    sort: Vec<String>,
}

/// A column: its title and the dotted path of its field.
pub(crate) type Column = (&'static str, &'static str);

impl ListArgs {
    /// The filter, and the page with the fields that `columns` need (all of them for JSON).
    pub(crate) fn request(
        &self,
        out: &mut Output<'_>,
        columns: &[Column],
    ) -> Result<(Object, Page), Failure> {
        let filter = json::read_object("--query", &self.query)?;
        let fields =
            if out.is_json() { vec![] } else { columns.iter().map(|(_, path)| (*path).to_owned()).collect() };
        Ok((filter, Page { limit: self.limit, skip: self.skip, sort: self.sort.clone(), fields }))
    }

    /// Prints what was found, and how to see the rest.
    pub(crate) fn print(
        &self,
        out: &mut Output<'_>,
        columns: &[Column],
        found: Listing<Object>,
    ) -> Result<(), Failure> {
        if out.is_json() {
            out.json(&found.records)?;
        } else {
            let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
            let row = |record: &Object| columns.iter().map(|(_, path)| text_of(at(record, path))).collect();
            out.rows(&titles, found.records.iter().map(row).collect())?;
        }
        if found.has_more {
            let next = self.skip.unwrap_or(0) + found.records.len() as u64;
            out.aside(&format!("there are more: --skip {next}"));
        }
        Ok(())
    }
}

/// The value at a dotted path, null if there is none.
fn at<'a>(record: &'a Object, path: &str) -> &'a Value {
    let mut steps = path.split('.');
    let first = steps.next().and_then(|step| record.get(step));
    steps.fold(first, |value, step| value?.get(step)).unwrap_or(&Value::Null)
}
