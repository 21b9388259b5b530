//! `edict demo`: everything in a temporary folder, one step after another, each checked.

mod files;
mod healing;
mod server;
mod story;

use super::failure::Failure;
use super::output::Output;
use clap::Args;
use server::DemoServer;
use story::Story;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Leave the server running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Show instead how a workload is healed, on the cluster that KUBECONFIG names: in a namespace of its own, which is
    /// removed at the end
    #[arg(long)]
    cluster: bool,
    /// What the workload of `--cluster` is made of: an image that does nothing, for good
    #[arg(long, default_value = "registry.k8s.io/pause:3.9", value_name = "IMAGE", requires = "cluster")]
    image: String,
}

pub(crate) async fn run(args: DemoArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    if args.cluster {
        return healing::run(&args.image, out).await;
    }
    let folder = tempfile::tempdir().map_err(|error| Failure::failed(error.to_string()))?;
    let (sample, sdk) = files::unpack(folder.path())?;
    let mut server = DemoServer::start(folder.path(), &[]).await?;
    let told = tell(&mut Story::new(&server, sample, sdk)?, out).await;
    if told.is_ok() && args.keep {
        out.line(&format!("\nThe server stays at {} until Ctrl-C.", server.url))?;
        crate::server::stop_signal().await;
    }
    let stopped = server.stop().await;
    told?;
    stopped?;
    out.line("\nThe server has stopped, and its temporary folder is gone. Next: docs/tutorial.md")
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
