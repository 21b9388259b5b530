//! `edict function deploy`: a policy becomes a service.

use super::super::failure::Failure;
use super::super::output::Output;
use super::super::request::RequestArgs;
use super::rollout::{self, RolloutArgs};
use clap::Args;
use edict_client::Client;
use edict_client::records::Object;
use serde_json::json;

#[derive(Args)]
pub(super) struct DeployArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How many copies; the allocator's choice if it makes one, else 1
    #[arg(long, value_name = "NUMBER")]
    replicas: Option<u32>,
    #[command(flatten)]
    scaling: ScalingArgs,
    #[command(flatten)]
    rollout: RolloutArgs,
}

/// How the number of replicas follows the load.
#[derive(Args)]
pub(super) struct ScalingArgs {
    /// Never fewer copies; 1 when left out
    #[arg(long, value_name = "NUMBER")]
    min: Option<u32>,
    /// Never more copies; what turns autoscaling on
    #[arg(long, value_name = "NUMBER")]
    max: Option<u32>,
    /// CPU that a copy should use on average, in percent of one core; 80 when left out
    #[arg(long, value_name = "PERCENT")]
    target_cpu: Option<u32>,
}

impl ScalingArgs {
    pub(super) fn is_given(&self) -> bool {
        self.min.is_some() || self.max.is_some() || self.target_cpu.is_some()
    }

    /// The rule with what the options say in its place; None when they say nothing.
    pub(super) fn over(&self, mut rule: Object) -> Result<Option<Object>, Failure> {
        if !self.is_given() {
            return Ok(None);
        }
        let options = [
            ("min_replicas", self.min),
            ("max_replicas", self.max),
            ("target_cpu_utilization_percentage", self.target_cpu),
        ];
        rule.extend(options.into_iter().filter_map(|(field, value)| Some((field.to_owned(), json!(value?)))));
        if rule.contains_key("max_replicas") {
            Ok(Some(rule))
        } else {
            Err(Failure::usage("--min and --target-cpu need --max: without it the function does not scale"))
        }
    }
}

pub(super) async fn run(args: DeployArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut request = args.request.read()?;
    request.set("replicas", args.replicas)?;
    request.set("autoscaling", args.scaling.over(request.object("autoscaling")?)?)?;
    let function = client.deploy_function(args.request.executor.as_deref(), &request).await?;
    rollout::finish(&args.rollout, client, function, out).await
}
