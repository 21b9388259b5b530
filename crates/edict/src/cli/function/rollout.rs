//! Waiting until a function's replicas are what its record says.

use super::super::failure::{Exit, Failure};
use super::super::output::{Output, at_terminal, count_bar, show_if_slow};
use super::super::request::Patience;
use clap::Args;
use edict_client::Client;
use edict_client::records::{Function, FunctionState, Seconds};

#[derive(Args)]
pub(super) struct RolloutArgs {
    /// Wait until every replica is ready; that is so anyway on a terminal
    #[arg(long)]
    wait: bool,
    /// Do not wait
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Longest wait: `90s`, `5m`; for ever when left out
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "no_wait")]
    longest: Option<Seconds>,
}

/// Prints a function that was deployed or changed: as it is, or once its replicas are ready.
pub(super) async fn finish(
    args: &RolloutArgs,
    client: &Client,
    function: Function,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let wait = args.wait || args.longest.is_some() || (at_terminal() && !args.no_wait);
    let function = if wait { until_ready(client, &function, args.longest).await? } else { function };
    out.done(&function.function_id, &function)
}

/// The function with all its replicas ready, at least in the revision that is given.
async fn until_ready(
    client: &Client,
    wanted: &Function,
    longest: Option<Seconds>,
) -> Result<Function, Failure> {
    let name = &wanted.function_id;
    let patience = Patience::new(longest);
    let bar = count_bar("replicas ready");
    let waiting = async {
        loop {
            let function = client.get_function(name, Some(patience.next())).await?;
            let status = &function.function_status;
            bar.set_length(status.desired.into());
            bar.set_position(status.ready.into());
            bar.set_message(status.state.as_str());
            // What is told of an earlier revision says nothing about this one.
            if status.observed_revision >= wanted.revision {
                if status.state == FunctionState::Ready {
                    return Ok(function);
                }
                if let Some(fault) = &status.error {
                    return Err(Failure::fault(Exit::Failed, fault)
                        .note(
                            "function",
                            format!(
                                "{name} is {}, {} of {} replicas ready",
                                status.state.as_str(),
                                status.ready,
                                status.desired
                            ),
                        )
                        .note(
                            "hint",
                            format!("`edict function logs {name}` shows what its replicas printed"),
                        ));
                }
            }
            if patience.is_over() {
                return Err(Failure::timed_out(format!(
                    "function `{name}` is still {}: {} of {} replicas are ready",
                    status.state.as_str(),
                    status.ready,
                    status.desired
                ))
                .note("hint", format!("it goes on; see `edict function get {name}`")));
            }
        }
    };
    show_if_slow(&bar, waiting).await
}
