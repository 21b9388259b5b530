//! The other half of `edict demo --cluster`: an executor is put into the cluster, runs jobs, functions and a graph there, and is
//! taken out again.

use super::super::executor::kubeconfig;
use super::super::failure::Failure;
use super::super::output::Output;
use super::files;
use super::server::DemoServer;
use super::story::Story;
use edict_client::records::ClusterConfig;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

pub(super) async fn run(
    kubeconfig: &Path,
    image: &str,
    address: Option<IpAddr>,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let config = kubeconfig::read(kubeconfig, None)?;
    let address = match address {
        Some(address) => address,
        None => toward(&config)?,
    };
    let folder = tempfile::tempdir().map_err(|error| Failure::failed(error.to_string()))?;
    let (sample, sdk) = files::unpack(folder.path())?;
    let token = crate::server::random_token();
    let (bind, tokens) = (address.to_string(), format!("admin:{token}"));
    let settings = [("EDICT_BIND", bind.as_str()), ("EDICT_AUTH_TOKENS", tokens.as_str())];
    let mut server = DemoServer::start(folder.path(), &settings).await?;
    let told = match Story::new(&server, Some(&token), sample, sdk) {
        Ok(mut story) => in_cluster(&mut story, &config, image, out).await,
        Err(failure) => Err(failure),
    };
    let stopped = server.stop().await;
    told.and(stopped)
}

async fn in_cluster(
    story: &mut Story,
    config: &ClusterConfig,
    image: &str,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    // Whoever has seen enough leaves nothing behind either.
    let told = tokio::select! {
        told = tell(story, config, image, out) => told,
        () = crate::server::stop_signal() => Err(Failure::failed("interrupted")),
    };
    let left = story.leave(config, out).await;
    told.and(left)
}

async fn tell(
    story: &mut Story,
    config: &ClusterConfig,
    image: &str,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    story.opening(out).await?;
    story.join(config, image, out).await?;
    story.register(out).await?;
    story.jobs_in_pods(out).await?;
    story.function(out).await?;
    story.graph(out).await
}

/// The address of this machine from which it reaches the API server: the one at which pods are likely to reach it.
fn toward(config: &ClusterConfig) -> Result<IpAddr, Failure> {
    let server = config.expose().pointer("/clusters/0/cluster/server").and_then(|server| server.as_str());
    let url = server.and_then(|server| reqwest::Url::parse(server).ok());
    let host = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
    let found = host.and_then(|(host, port)| {
        // Nothing is sent by this: it only asks for the way.
        let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        socket.connect((host, port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    match found {
        Some(address) if !address.is_loopback() => Ok(address),
        _ => Err(Failure::usage(
            "which address of this machine do pods of the cluster reach? Say it with `--address`",
        )),
    }
}
