//! `edict demo`: everything in a temporary folder, one step after another, each checked.

mod files;
mod fleet;
mod healing;
mod server;
mod story;

use super::failure::Failure;
use super::output::Output;
use clap::Args;
use server::DemoServer;
use std::net::IpAddr;
use std::path::PathBuf;
use story::Story;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Leave the server running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Show instead what there is for Kubernetes, on the cluster that KUBECONFIG names: how a workload is healed, and an executor
    /// with jobs and functions in pods; in namespaces of their own, which are removed at the end
    #[arg(long)]
    cluster: bool,
    /// What the workload of `--cluster` is made of: an image that does nothing, for good
    #[arg(long, default_value = "registry.k8s.io/pause:3.9", value_name = "IMAGE", requires = "cluster")]
    image: String,
    /// The image of Edict itself, as `cargo xtask image` makes it: the executor of `--cluster` is made of it
    #[arg(long, default_value = concat!("edict:", env!("CARGO_PKG_VERSION")), value_name = "IMAGE", requires = "cluster")]
    edict_image: String,
    /// This machine's address that pods of `--cluster` reach; found out when left out
    #[arg(long, value_name = "IP", requires = "cluster")]
    address: Option<IpAddr>,
}

pub(crate) async fn run(args: DemoArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    if args.cluster {
        return on_cluster(args, out).await;
    }
    let folder = tempfile::tempdir().map_err(|error| Failure::failed(error.to_string()))?;
    let (sample, sdk) = files::unpack(folder.path())?;
    let mut server = DemoServer::start(folder.path(), &[]).await?;
    let told = tell(&mut Story::new(&server, None, sample, sdk)?, out).await;
    if told.is_ok() && args.keep {
        out.line(&format!("\nThe server stays at {} until Ctrl-C.", server.url))?;
        crate::server::stop_signal().await;
    }
    let stopped = server.stop().await;
    told?;
    stopped?;
    out.line("\nThe server has stopped, and its temporary folder is gone. Next: docs/tutorial.md")
}

async fn on_cluster(args: DemoArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let kubeconfig = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()).map(PathBuf::from);
    let Some(kubeconfig) = kubeconfig else {
        return Err(Failure::usage("`--cluster` needs a cluster: set KUBECONFIG"));
    };
    healing::run(&kubeconfig, &args.image, out).await?;
    fleet::run(&kubeconfig, &args.edict_image, args.address, out).await?;
    out.line("\nThe server has stopped, and the namespaces are removed. Next: docs/operations.md#kubernetes")
}

async fn tell(story: &mut Story, out: &mut Output<'_>) -> Result<(), Failure> {
    story.opening(out).await?;
    story.register(out).await?;
    story.find(out).await?;
    story.execute(out).await?;
    story.manage(out).await?;
    story.refuse(out).await?;
    story.contain(out).await?;
    story.job(out).await?;
    story.function(out).await?;
    story.scale(out).await?;
    story.graph(out).await?;
    story.python(out).await
}
