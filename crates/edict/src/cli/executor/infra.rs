//! `edict executor add-infra`, `show-infra` and `remove-infra`: executors that the policy system sets up in a cluster.

use super::super::failure::Failure;
use super::super::output::{Output, show_if_slow, spinner};
use super::kubeconfig;
use clap::{Args, ValueEnum};
use edict_client::records::{
    CreateInfra, ExecutorInfra, InfraExposure, InfraIngress, InfraOptions, InfraState, RemoveInfra, Seconds,
};
use edict_client::{Client, Error};
use indicatif::ProgressBar;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// What `show-infra` shows, in this order.
const FIELDS: &[&str] = &[
    "executor_id",
    "infra_state",
    "step",
    "error",
    "executor_host_uri",
    "cluster",
    "namespace",
    "image",
    "server_url",
    "options",
    "created_at",
    "updated_at",
];

/// How often somebody who waits is told how far it is.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Args)]
struct KubeconfigArgs {
    /// The cluster's kubeconfig; files that it names are sent along
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    kubeconfig: PathBuf,
    /// A context of the kubeconfig; its current one when left out
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// For example `edge-1`
    id: String,
    #[command(flatten)]
    kubeconfig: KubeconfigArgs,
    /// Where it runs; made if there is none. One of its own when left out
    #[arg(long)]
    namespace: Option<String>,
    /// The image of the executor and of what it runs; the server's `pod_image` when left out
    #[arg(long)]
    image: Option<String>,
    /// The secret in the namespace with which the image is pulled
    #[arg(long, value_name = "NAME")]
    image_pull_secret: Option<String>,
    /// Runs that the executor carries out at the same time
    #[arg(long, value_name = "NUMBER")]
    max_processes: Option<u32>,
    /// Memory that the executor's own pod may use, with the runs in it: `2Gi`
    #[arg(long, value_name = "QUANTITY")]
    memory_limit: Option<String>,
    /// How the cluster reaches the policy system; the server's `public_url` when left out
    #[arg(long, value_name = "URL")]
    server_url: Option<String>,
    /// How the policy system reaches the executor; found out when left out
    #[arg(long, value_name = "URL")]
    executor_url: Option<String>,
    /// The kind of the executor's Service
    #[arg(long, value_enum, value_name = "KIND")]
    exposure: Option<Exposure>,
    /// Reach it through an ingress, under this name
    #[arg(long, value_name = "HOST")]
    ingress_host: Option<String>,
    /// The ingress class
    #[arg(long, value_name = "NAME", requires = "ingress_host")]
    ingress_class: Option<String>,
    /// The secret in the namespace with the ingress's certificate
    #[arg(long, value_name = "NAME", requires = "ingress_host")]
    ingress_tls_secret: Option<String>,
    /// Where pods share code and installed requirements: `node`, `none` or `claim:NAME`
    #[arg(long)]
    cache: Option<String>,
    /// Longest wait until the executor is healthy: `90s`, `5m`; 5 minutes when left out
    #[arg(long = "for", value_name = "DURATION")]
    longest: Option<Seconds>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Exposure {
    #[value(name = "NodePort")]
    NodePort,
    #[value(name = "ClusterIP")]
    ClusterIp,
    #[value(name = "LoadBalancer")]
    LoadBalancer,
}

#[derive(Args)]
pub(super) struct RemoveArgs {
    /// For example `edge-1`
    id: String,
    /// The cluster's kubeconfig; files that it names are sent along. Not needed with --force
    #[arg(
        long,
        value_name = "FILE",
        env = "KUBECONFIG",
        hide_env_values = true,
        required_unless_present = "force"
    )]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one when left out
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Where to look for what was forgotten with --force
    #[arg(long)]
    namespace: Option<String>,
    /// Forget it even though the cluster cannot be reached, or does not let all of it go
    #[arg(long)]
    force: bool,
    /// Longest wait until everything is gone: `90s`, `5m`; 5 minutes when left out
    #[arg(long = "for", value_name = "DURATION")]
    longest: Option<Seconds>,
}

pub(super) async fn add(args: AddArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let AddArgs { id, kubeconfig, ingress_host, .. } = args;
    let (class, tls_secret) = (args.ingress_class, args.ingress_tls_secret);
    let request = CreateInfra {
        cluster_config: kubeconfig::read(&kubeconfig.kubeconfig, kubeconfig.context.as_deref())?,
        wait: args.longest,
        options: InfraOptions {
            namespace: args.namespace,
            image: args.image,
            image_pull_secret: args.image_pull_secret,
            max_processes: args.max_processes,
            server_url: args.server_url,
            executor_host_uri: args.executor_url,
            exposure: args.exposure.map(|exposure| match exposure {
                Exposure::NodePort => InfraExposure::NodePort,
                Exposure::ClusterIp => InfraExposure::ClusterIp,
                Exposure::LoadBalancer => InfraExposure::LoadBalancer,
            }),
            ingress: ingress_host.map(|host| InfraIngress {
                host,
                class,
                tls_secret,
                ..InfraIngress::default()
            }),
            cache: args.cache,
            memory_limit: args.memory_limit,
        },
    };
    let made = watched(client, &id, client.create_infra(&id, &request)).await?;
    warn(&made.warnings, out);
    let infra = made.record;
    let address = infra.executor_host_uri.as_deref().unwrap_or("an address that is not known");
    out.done(&format!("{id} serves at {address}"), &infra)
}

pub(super) async fn show(id: &str, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    out.record(&client.executor_infra(id).await?, FIELDS)
}

pub(super) async fn remove(args: RemoveArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let config = args.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty());
    let config = config.map(|path| kubeconfig::read(path, args.context.as_deref())).transpose();
    let request = RemoveInfra {
        cluster_config: match config {
            Ok(config) => config,
            // Forgetting needs none.
            Err(failure) if args.force => {
                out.aside(&format!("warning: {}", failure.message));
                None
            }
            Err(failure) => return Err(failure),
        },
        namespace: args.namespace,
        force: args.force,
        wait: args.longest,
    };
    let removed = watched(client, &args.id, client.remove_infra(&args.id, &request)).await?;
    warn(&removed.warnings, out);
    let said = match removed.record.removed {
        true => format!("removed the infrastructure of {}", args.id),
        false => format!("{} has no infrastructure", args.id),
    };
    out.done(&said, &removed.record)
}

fn warn(warnings: &[String], out: &Output<'_>) {
    for warning in warnings {
        out.aside(&format!("warning: {warning}"));
    }
}

/// Waits for work on an executor's infrastructure, and shows how far it is.
async fn watched<T>(
    client: &Client,
    id: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    let bar = spinner("asking the policy system");
    let working = async {
        tokio::select! {
            done = work => done,
            never = follow(client, id, &bar) => match never {},
        }
    };
    Ok(show_if_slow(&bar, working).await?)
}

async fn follow(client: &Client, id: &str, bar: &ProgressBar) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        // What cannot be looked at is not shown; the work itself says what is wrong.
        if let Ok(ExecutorInfra { infra_state: InfraState::Creating | InfraState::Removing, step, .. }) =
            client.executor_infra(id).await
        {
            bar.set_message(super::super::output::printable(&step));
        }
    }
}
