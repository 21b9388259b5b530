//! `edict action`: asks the action executor to change something on the cluster.

use super::Global;
use super::failure::{Exit, Failure};
use super::output::Output;
use crate::error::Code;
use clap::{Args, Subcommand};
use edict_client::records::{ActionReply, ExecuteAction, Object, Seconds};
use serde_json::Value;

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

#[derive(Args)]
pub(crate) struct ActionArgs {
    #[command(subcommand)]
    action: ActionCommand,
    #[command(flatten)]
    how: How,
}

#[derive(Subcommand)]
enum ActionCommand {
    /// Delete a pod so that its controller makes a new one
    RestartPod {
        /// The pod's name
        pod: String,
        /// Also a pod that no controller would bring back
        #[arg(long)]
        force: bool,
    },
    /// Delete a pod, whether or not it comes back
    DeletePod {
        /// The pod's name
        pod: String,
    },
    /// Set how many pods a deployment has
    Scale {
        /// The deployment's name
        deployment: String,
        /// How many pods there are to be
        #[arg(long)]
        replicas: u32,
    },
    /// Give a deployment the pods of an earlier revision
    Rollback {
        /// The deployment's name
        deployment: String,
        /// The revision to go back to; the one before the current when left out
        #[arg(long)]
        revision: Option<i64>,
    },
    /// Replace all pods of a deployment
    RestartDeployment {
        /// The deployment's name
        deployment: String,
    },
}

/// No `Debug`: it would print the secret.
#[derive(Args)]
struct How {
    /// The target's namespace
    #[arg(short, long, global = true, required = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Who asks: what decision policies see as `userId`
    #[arg(
        long,
        global = true,
        env = "USER",
        hide_env_values = true,
        default_value = "edict",
        value_name = "NAME"
    )]
    requested_by: String,
    /// Have the cluster check the action without carrying it out
    #[arg(long, global = true, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait until the workload is healthy again: `60s`, `5m`, at most 10 minutes
    #[arg(long, global = true, value_name = "TIME")]
    wait: Option<Seconds>,
    /// Ask the policy engine first, and do not even try what it does not allow
    #[arg(long, global = true)]
    check: bool,
    /// Address of the action executor
    #[arg(
        long,
        global = true,
        env = "EDICT_ACTIONS_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:4000",
        value_name = "URL"
    )]
    actions_url: String,
    /// Key to sign with; better given as JWT_SECRET, where other users of the machine cannot see it
    #[arg(long, global = true, env = "JWT_SECRET", hide_env_values = true)]
    secret: Option<String>,
}

pub(crate) async fn run(args: ActionArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    let ActionArgs { action, how } = args;
    let client = global.client_of(&how.actions_url)?;
    let mut request = action.request(&how);
    request.wait = how.wait;
    request.dry_run = how.dry_run;
    let request = match how.secret.as_deref() {
        // An empty variable is how shells say "none".
        None | Some("") => request,
        Some(secret) => request.sign_once(secret),
    };
    let reply = client.execute_action(&request).await?;
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

impl ActionCommand {
    fn request(self, how: &How) -> ExecuteAction {
        let (action, target, more) = match self {
            Self::RestartPod { pod, force: true } => {
                ("restart_pod", ("podName", pod), Some(("force", true.into())))
            }
            Self::RestartPod { pod, force: false } => ("restart_pod", ("podName", pod), None),
            Self::DeletePod { pod } => ("delete_pod", ("podName", pod), None),
            Self::Scale { deployment, replicas } => {
                ("scale_deployment", ("deploymentName", deployment), Some(("replicas", replicas.into())))
            }
            Self::Rollback { deployment, revision } => {
                let revision = revision.map(|revision| ("revision", revision.into()));
                ("rollback_deployment", ("deploymentName", deployment), revision)
            }
            Self::RestartDeployment { deployment } => {
                ("restart_deployment", ("deploymentName", deployment), None)
            }
        };
        let mut params: Object =
            more.map(|(name, value): (&str, Value)| (name.to_owned(), value)).into_iter().collect();
        params.insert("namespace".to_owned(), how.namespace.clone().into());
        params.insert(target.0.to_owned(), target.1.into());
        ExecuteAction::new(action, params, &how.requested_by)
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
