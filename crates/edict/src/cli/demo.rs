//! stub
use super::failure::Failure;
use super::output::Output;
use clap::Args;

#[derive(Args)]
pub(crate) struct DemoArgs {}

pub(crate) async fn run(_args: DemoArgs, _out: &mut Output<'_>) -> Result<(), Failure> {
    Ok(())
}
