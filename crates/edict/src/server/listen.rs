//! Listeners: bound first, served together, stopped together.

use super::ServeError;
use crate::settings::Settings;
use axum::Router;
use axum::serve::ListenerExt;
use serde_json::{Map, Value};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Sockets that are bound but not served yet, so that a taken port is found before anything else happens.
pub(crate) struct Listeners(Vec<(&'static str, TcpListener, SocketAddr)>);

impl Listeners {
    /// Binds the named listeners to their ports.
    pub(crate) async fn bind(settings: &Settings, names: &[&'static str]) -> Result<Self, ServeError> {
        let mut bound = Vec::new();
        for name in names {
            let port = match *name {
                "system" => settings.system_port,
                "engine" => settings.engine_port,
                "actions" => settings.actions_port,
                "function" => settings.function_port,
                _ => settings.executor_port,
            };
            let address = SocketAddr::new(settings.bind, port);
            let failed = |source| ServeError::Listen { address: address.to_string(), source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            bound.push((*name, listener, address));
        }
        Ok(Self(bound))
    }

    /// Where the listener `name` is reached from this machine.
    pub(crate) fn url(&self, name: &str) -> String {
        self.0
            .iter()
            .find(|(listener, _, _)| *listener == name)
            .map_or_else(String::new, |(_, _, at)| url(*at))
    }

    /// Serves one router per listener, in their order. `grace` is how long requests may take to finish at the end.
    pub(crate) fn serve(self, routers: Vec<Router>, grace: Duration) -> Serving {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut urls = Vec::new();
        for ((name, listener, address), router) in self.0.into_iter().zip(routers) {
            urls.push((name, url(address)));
            let mut stopped = stopped.clone();
            let listener = listener.tap_io(|stream| {
                // Without it, small replies wait for the acknowledgement of earlier ones.
                stream.set_nodelay(true).ok();
            });
            tasks.spawn(async move {
                let told = async move {
                    stopped.wait_for(|stop| *stop).await.ok();
                };
                // Who asks is told to the policy engine's conditions.
                let service = router.into_make_service_with_connect_info::<SocketAddr>();
                if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(told).await {
                    tracing::error!(%error, name, "listener failed");
                }
            });
        }
        Serving { urls, tasks, stop, grace }
    }
}

fn url(address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() {
        SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    };
    format!("http://{host}")
}

/// Listeners that serve.
pub(crate) struct Serving {
    urls: Vec<(&'static str, String)>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    grace: Duration,
}

impl Serving {
    /// Takes no new connections and lets requests finish, for the grace time at most.
    pub(crate) async fn stop(mut self) {
        self.stop.send(true).ok();
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, finished).await.is_err() {
            tracing::warn!("requests were still running at the end of the grace time");
        }
        self.tasks.shutdown().await;
    }
}

/// Tells the outside that the server serves; takes it back when dropped.
pub(crate) struct Ready(Option<PathBuf>);

impl Ready {
    /// Prints a line per listener, and writes the ready file: appearing under its name at once, so that whoever waits
    /// for it never reads half of it.
    pub(crate) fn announce(serving: &Serving, file: Option<&Path>) -> std::io::Result<Self> {
        let mut out = std::io::stdout().lock();
        for (name, url) in &serving.urls {
            writeln!(out, "{name:<8} {url}").ok();
        }
        out.flush().ok();
        if let Some(file) = file {
            let urls: Map<String, Value> = serving
                .urls
                .iter()
                .map(|(name, url)| ((*name).to_owned(), Value::from(url.as_str())))
                .collect();
            let mut partial = file.as_os_str().to_owned();
            partial.push(".partial");
            fs::write(&partial, Value::Object(urls).to_string())?;
            fs::rename(&partial, file)?;
        }
        Ok(Self(file.map(Path::to_path_buf)))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            fs::remove_file(file).ok();
        }
    }
}

/// Waits for SIGTERM or SIGINT that come after this call, not only after it is awaited: whoever learns that the server
/// is ready may tell it to stop at once, and it must not die of that.
pub(crate) fn stop_signal() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            _ => std::future::pending().await,
        }
    }
}
