//! `edict function call`: one call, like those of a function's other users.

use super::super::failure::Failure;
use super::super::json;
use super::super::output::{Output, show_if_slow, spinner};
use clap::Args;
use edict_client::Client;

#[derive(Args)]
pub(super) struct CallArgs {
    /// For example `check-ip-fn`
    name: String,
    /// What the policy gets as input: JSON, @file, or - for stdin
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    input: String,
}

pub(super) async fn run(args: &CallArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let input = json::read("--input", &args.input)?;
    let call = client.call_function(&args.name, &input);
    out.json(&show_if_slow(&spinner("calling"), call).await?)
}
