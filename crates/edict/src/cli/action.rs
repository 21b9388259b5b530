//! `edict action`: asks the action executor to change something on the cluster.

use super::Global;
use super::decide::EngineArgs;
use super::failure::{Exit, Failure};
use super::output::Output;
use crate::error::Code;
use clap::{Args, ValueEnum};
use edict_client::records::{ActionReply, DecisionRequest, ExecuteAction, Object, Seconds};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

/// What is shown of a result, in this order.
const FIELDS: &[&str] = &[
    "auditId",
    "namespace",
    "podName",
    "deploymentName",
    "node",
    "replicasBefore",
    "replicasAfter",
    "fromRevision",
    "toRevision",
    "restartedAt",
    "images",
    "dryRun",
    "health",
];

/// What is done, by the names that people type.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verb {
    /// Delete a pod so that its controller makes a new one
    RestartPod,
    /// Delete a pod, whether or not it comes back
    DeletePod,
    /// Set how many pods a deployment has
    Scale,
    /// Give a deployment the pods of an earlier revision
    Rollback,
    /// Replace all pods of a deployment
    RestartDeployment,
}

/// No `Debug`: it would print the secret.
#[derive(Args)]
pub(crate) struct ActionArgs {
    /// What to do
    action: Verb,
    /// The name of the pod or deployment
    target: String,
    /// The target's namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: String,
    /// scale: how many pods there are to be
    #[arg(long, required_if_eq("action", "scale"), value_name = "N")]
    replicas: Option<u32>,
    /// rollback: the revision to go back to; the one before the current when left out
    #[arg(long, value_name = "N")]
    revision: Option<u32>,
    /// restart-pod: also a pod that no controller would bring back
    #[arg(long)]
    force: bool,
    /// Who asks: what decision policies see as `userId`
    #[arg(long, env = "USER", hide_env_values = true, default_value = "edict", value_name = "NAME")]
    requested_by: String,
    /// Have the cluster check the action without carrying it out
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait until the workload is healthy again: `60s`, `5m`, at most 10 minutes
    #[arg(long, value_name = "TIME")]
    wait: Option<Seconds>,
    /// Ask the policy engine first, and do not even try what it does not allow
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    engine: EngineArgs,
    /// Address of the action executor
    #[arg(
        long,
        env = "EDICT_ACTIONS_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:4000",
        value_name = "URL"
    )]
    actions_url: String,
    /// Key to sign with; better given as JWT_SECRET, where other users of the machine cannot see it
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "KEY")]
    secret: Option<String>,
}

pub(crate) async fn run(args: ActionArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut request = args.request();
    if args.check {
        let decision = args.engine.client(global)?.evaluate(&args.question(&request)).await?;
        if !decision.allowed {
            let message = format!("the policy engine does not allow this: {}", decision.reason);
            return Err(
                Failure::refused(Exit::Denied, message, &Value::Null).note("decision", decision.decision_id)
            );
        }
        request.policy_decision = to_raw_value(&decision).ok();
    }
    let request = match args.secret.as_deref() {
        // An empty variable is how shells say "none".
        None | Some("") => request,
        Some(secret) => request.sign_once(secret),
    };
    let reply = global.client_for(&args.actions_url)?.execute_action(&request).await?;
    if !reply.success {
        return Err(failure(reply));
    }
    print(&reply, out)?;
    let health = reply.result.as_ref().and_then(|result| result.get("health"));
    match health.filter(|health| health["healthy"] != true) {
        None => Ok(()),
        Some(health) => {
            let reason = health["reason"].as_str().unwrap_or("it does not say why");
            Err(Failure::timed_out(format!("it was done, but the workload is not healthy: {reason}")))
        }
    }
}

impl Verb {
    /// The action's name, the parameter that its target is, and what decision policies call such a target.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::RestartPod => ("restart_pod", "podName", "pod"),
            Self::DeletePod => ("delete_pod", "podName", "pod"),
            Self::Scale => ("scale_deployment", "deploymentName", "deployment"),
            Self::Rollback => ("rollback_deployment", "deploymentName", "deployment"),
            Self::RestartDeployment => ("restart_deployment", "deploymentName", "deployment"),
        }
    }
}

impl ActionArgs {
    /// The request, unsigned. Options that do not belong to the action become parameters as well, which the server
    /// refuses by name.
    fn request(&self) -> ExecuteAction {
        let (action, target, _) = self.action.names();
        let mut params = Object::new();
        params.insert("namespace".to_owned(), self.namespace.as_str().into());
        params.insert(target.to_owned(), self.target.as_str().into());
        let options = [
            ("replicas", self.replicas.map(Value::from)),
            ("revision", self.revision.map(Value::from)),
            ("force", self.force.then_some(Value::Bool(true))),
        ];
        params.extend(options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let mut request = ExecuteAction::new(action, params, &self.requested_by);
        (request.dry_run, request.wait) = (self.dry_run, self.wait);
        request
    }

    /// What the action executor itself will ask the policy engine.
    fn question(&self, request: &ExecuteAction) -> DecisionRequest {
        let (action, _, kind) = self.action.names();
        let mut metadata = request.action_params.clone();
        metadata.insert("dryRun".to_owned(), self.dry_run.into());
        let context = json!({"userId": self.requested_by, "role": "service", "metadata": metadata});
        DecisionRequest {
            action: action.to_owned(),
            resource: format!("{kind}:{}", self.target),
            kind: "self_healing".to_owned(),
            context: context.as_object().cloned().unwrap_or_default(),
        }
    }
}

fn print(reply: &ActionReply, out: &mut Output<'_>) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(reply);
    }
    let mut shown = match &reply.result {
        Some(Value::Object(result)) => result.clone(),
        _ => Object::new(),
    };
    shown.insert("auditId".to_owned(), reply.audit_id.clone().into());
    out.record(&shown, FIELDS)
}

/// Why the action was not carried out, with the exit code that goes with the error's code.
fn failure(reply: ActionReply) -> Failure {
    let code = reply.code.unwrap_or_default();
    let known = Code::from_text(&code);
    let exit = match known {
        Some(Code::ActionNotAllowed | Code::NamespaceNotAllowed) => Exit::Denied,
        known => Exit::of(known.map_or(0, |code| code.status().as_u16())),
    };
    let failure = Failure::refused(exit, reply.error.unwrap_or_default(), &reply.details).note("code", code);
    match reply.audit_id {
        Some(id) => failure.note("audit", id),
        None => failure,
    }
}
