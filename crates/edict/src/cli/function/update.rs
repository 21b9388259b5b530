//! `edict function update` and `edict function scale`: changes that replicas follow one after the other.

use super::super::failure::Failure;
use super::super::json;
use super::super::output::Output;
use super::super::request::Request;
use super::deploy::ScalingArgs;
use super::rollout::{self, RolloutArgs};
use clap::{ArgGroup, Args};
use edict_client::Client;
use edict_client::records::{Function, Object};
use serde_json::{Value, json};

#[derive(Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args([
    "policy", "parameters", "settings", "replicas", "min", "max", "target_cpu", "no_autoscaling",
])))]
pub(super) struct UpdateArgs {
    /// For example `check-ip-fn`
    name: String,
    /// The policy that it serves from now on; naming the present one takes it as it is now
    #[arg(long, value_name = "URI")]
    policy: Option<String>,
    /// What it overrides of the policy's parameters from now on: a JSON object, @file, or - for stdin
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// What it overrides of the policy's settings from now on: a JSON object, @file, or - for stdin
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// How many copies
    #[arg(long, value_name = "NUMBER")]
    replicas: Option<u32>,
    #[command(flatten)]
    scaling: ScalingArgs,
    /// Stay at `replicas`, whatever the load
    #[arg(long, conflicts_with_all = ["min", "max", "target_cpu"])]
    no_autoscaling: bool,
    #[command(flatten)]
    rollout: RolloutArgs,
}

#[derive(Args)]
pub(super) struct ScaleArgs {
    /// For example `check-ip-fn`
    name: String,
    /// How many copies
    replicas: u32,
    #[command(flatten)]
    rollout: RolloutArgs,
}

pub(super) async fn update(args: &UpdateArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let parameters = json::read_optional("--parameters", args.parameters.as_deref())?;
    let settings = json::read_optional("--settings", args.settings.as_deref())?;
    let mut change = Request::default();
    change.set("policy_rule_uri", args.policy.as_ref())?;
    change.set("policy_rule_parameters", parameters)?;
    change.set("policy_rule_settings", settings)?;
    change.set("replicas", args.replicas)?;
    change.set("autoscaling", args.no_autoscaling.then_some(Value::Null))?;
    let mut read = None;
    if args.scaling.is_given() {
        let function = client.get_function(&args.name, None).await?;
        change.set("autoscaling", args.scaling.over(rule_of(&function)?)?)?;
        // The rest of the rule that was read is written again.
        read = Some(function.revision);
    }
    let function = client.update_function(&args.name, &change, read).await?.record;
    rollout::finish(&args.rollout, client, function, out).await
}

fn rule_of(function: &Function) -> Result<Object, Failure> {
    let Some(rule) = &function.autoscaling else { return Ok(Object::new()) };
    let text = serde_json::to_string(rule).and_then(|text| serde_json::from_str(&text));
    text.map_err(|error| Failure::failed(format!("cannot read the function's autoscaling: {error}")))
}

pub(super) async fn scale(args: &ScaleArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let change = json!({"$set": {"replicas": args.replicas}});
    let function = client.update_function(&args.name, &change, None).await?.record;
    if let Some(rule) = function.autoscaling.as_ref().filter(|rule| rule.enabled) {
        out.aside(&format!(
            "note: autoscaling goes on from there, between {} and {}; `edict function update {} --no-autoscaling` ends it",
            rule.min_replicas, rule.max_replicas, args.name
        ));
    }
    rollout::finish(&args.rollout, client, function, out).await
}
