//! `edict decide`: asks the policy engine, or decides here by policies in files.

mod cases;
mod local;

use super::failure::Failure;
use super::output::Output;
use super::{Global, json};
use crate::decisions::evaluate::scalar;
use clap::Args;
use edict_client::Client;
use edict_client::records::{Decision, DecisionError, DecisionRequest, Object};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// Where the policy engine is.
#[derive(Args)]
pub(crate) struct EngineArgs {
    /// Address of the policy engine
    #[arg(
        long,
        global = true,
        env = "EDICT_ENGINE_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:3000",
        value_name = "URL"
    )]
    engine_url: String,
}

#[derive(Args)]
pub(crate) struct DecideArgs {
    /// What is to be done, for example `restart_pod`
    #[arg(required_unless_present = "cases")]
    action: Option<String>,
    /// What it is to be done to, for example `pod:api-7`
    #[arg(required_unless_present = "cases")]
    resource: Option<String>,
    /// Which kind of request it is
    #[arg(long = "type", value_name = "TYPE", default_value = "self_healing")]
    kind: String,
    /// Who asks
    #[arg(long)]
    user: Option<String>,
    /// In which role; may be repeated
    #[arg(long)]
    role: Vec<String>,
    /// From which address; the engine takes the caller's own when left out
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// A field of the metadata, `severity=high`, or a JSON object; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    metadata: Vec<String>,
    /// Anything else of the context: a JSON object, @file, or - for stdin
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// Show what each decision policy has to do with it
    #[arg(long)]
    explain: bool,
    /// Decide here by the decision policies in a file or folder, without a server
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
    /// Check the cases in a file or folder against `--policies` and the policies beside the cases
    #[arg(long, value_name = "PATH", conflicts_with_all = ["action", "resource", "user", "role", "ip", "metadata", "context", "explain"])]
    cases: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What decided, here or there; with `considered` when it was asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    allowed: bool,
    reason: String,
    applied_policies: Vec<String>,
    /// Only the engine records what it decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<DecisionError>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    considered: Vec<Considered>,
}

#[derive(Serialize)]
struct Considered {
    policy: String,
    effect: &'static str,
    priority: u16,
    applied: bool,
    stage: String,
    why: String,
}

pub(crate) async fn run(args: DecideArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    if let Some(cases) = &args.cases {
        return cases::check(cases, args.policies.as_deref(), out);
    }
    let request = args.request()?;
    let answer = match &args.policies {
        Some(path) => local::decide(path, request, args.explain)?,
        None => ask(&args.engine.client(global)?, &request, args.explain).await?,
    };
    answer.print(out)?;
    if answer.allowed { Ok(()) } else { Err(Failure::denied()) }
}

async fn ask(client: &Client, request: &DecisionRequest, explain: bool) -> Result<Answer, Failure> {
    if !explain {
        return Ok(Answer::new(client.evaluate(request).await?, Vec::new()));
    }
    let explained = client.explain(request).await?;
    let considered = explained.considered.into_iter().map(|policy| Considered {
        policy: policy.policy,
        effect: match policy.effect {
            edict_client::records::Effect::Allow => "allow",
            edict_client::records::Effect::Deny => "deny",
        },
        priority: policy.priority,
        applied: policy.applied,
        stage: policy.stage,
        why: policy.why,
    });
    Ok(Answer::new(explained.decision, considered.collect()))
}

impl EngineArgs {
    /// A client for the policy engine.
    pub(crate) fn client(&self, global: &Global) -> Result<Client, Failure> {
        global.client_for(&self.engine_url)
    }
}

impl DecideArgs {
    fn request(&self) -> Result<DecisionRequest, Failure> {
        let mut context = json::read_optional("--context", self.context.as_deref())?.unwrap_or_default();
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                context.insert(field.to_owned(), value);
            }
        };
        set("userId", self.user.clone().map(Value::from));
        set("ipAddress", self.ip.clone().map(Value::from));
        match self.role.as_slice() {
            [] => {}
            [role] => set("role", Some(Value::from(role.as_str()))),
            roles => set("roles", Some(Value::from(roles))),
        }
        if !self.metadata.is_empty() {
            let known = context.remove("metadata").and_then(|known| known.as_object().cloned());
            let mut metadata = known.unwrap_or_default();
            for given in &self.metadata {
                metadata.extend(fields(given)?);
            }
            context.insert("metadata".to_owned(), Value::Object(metadata));
        }
        Ok(DecisionRequest {
            action: self.action.clone().unwrap_or_default(),
            resource: self.resource.clone().unwrap_or_default(),
            kind: self.kind.clone(),
            context,
        })
    }
}

/// `severity=high`, or a JSON object.
fn fields(given: &str) -> Result<Object, Failure> {
    if given.trim_start().starts_with('{') {
        return json::read_object("--metadata", given);
    }
    match given.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(Object::from_iter([(name.to_owned(), scalar(value.to_owned()))]))
        }
        _ => Err(Failure::usage(format!("--metadata: `{given}` is neither `name=value` nor a JSON object"))),
    }
}

impl Answer {
    fn new(decision: Decision, considered: Vec<Considered>) -> Self {
        let Decision { allowed, reason, applied_policies, decision_id, errors } = decision;
        Self { allowed, reason, applied_policies, decision_id: Some(decision_id), errors, considered }
    }

    fn print(&self, out: &mut Output<'_>) -> Result<(), Failure> {
        if out.is_json() {
            return out.json(self);
        }
        out.line(&self.reason)?;
        if self.applied_policies.len() > 1 {
            out.line(&format!("applied: {}", self.applied_policies.join(", ")))?;
        }
        for error in &self.errors {
            out.line(&format!(
                "not evaluated: policy `{}`, `{}`: {}",
                error.policy, error.field, error.message
            ))?;
        }
        for Considered { policy, effect, priority, applied, why, .. } in &self.considered {
            let applied = if *applied { "applied" } else { "not applied" };
            out.line(&format!("{applied}: {effect} `{policy}` (priority {priority}): {why}"))?;
        }
        Ok(())
    }
}
