//! A way to the API server that misbehaves: an HTTP server on loopback that passes requests on, credentials included,
//! unless a rule says otherwise.

use crate::Namespace;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What happens to a request instead of being passed on.
#[derive(Clone)]
pub enum Mischief {
    /// The connection ends; the API server has seen nothing.
    CutBefore,
    /// The API server does it, and the connection ends before its answer arrives.
    CutAfter,
    /// Nothing happens, ever.
    Hang,
    /// The API server does it; its answer comes this much later.
    Late(Duration),
    /// This answer: status, value of `Retry-After` if any, body.
    Answer(u16, Option<&'static str>, String),
    /// Something else happens first; then it is passed on.
    Meanwhile(Arc<dyn Fn() + Send + Sync>),
}

struct Rule {
    method: &'static str,
    path: String,
    left: usize,
    mischief: Mischief,
}

#[derive(Clone)]
struct Shared {
    upstream: Client,
    rules: Arc<Mutex<Vec<Rule>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// The way to the API server. Goes down when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Shared,
    server: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A way to the cluster of this namespace.
    pub async fn start(namespace: &Namespace) -> Self {
        let mut kubeconfig = Kubeconfig::read_from(namespace.admin()).unwrap();
        // Requests come with credentials of their own.
        kubeconfig.auth_infos.clear();
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        (config.proxy_url, config.default_retry) = (None, false);
        let upstream = Client::try_from(config).unwrap();
        let shared = Shared { upstream, rules: Arc::default(), seen: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, shared.clone()));
        Self { address, shared, server: Some(server) }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig of Edict's service account in this namespace, by this way.
    #[must_use]
    pub fn kubeconfig(&self, namespace: &Namespace) -> PathBuf {
        namespace.kubeconfig_via(&self.url())
    }

    /// The next `times` requests with this method whose path contains this meet with mischief.
    pub fn on(&self, method: &'static str, path: &str, times: usize, mischief: Mischief) {
        let rule = Rule { method, path: path.to_owned(), left: times, mischief };
        self.shared.rules.lock().unwrap().push(rule);
    }

    /// All is well again.
    pub fn behave(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// Method and path of every request until now.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Ends all connections and takes no new ones.
    pub async fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            server.await.ok();
        }
    }

    /// Takes connections again, at the same address.
    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = Some(tokio::spawn(serve(listener, self.shared.clone())));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn serve(listener: TcpListener, shared: Shared) {
    // Connections end with the server.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Shared) {
    let service = service_fn(move |request| answer(request, shared.clone()));
    // An error is how a connection is cut.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(request: Request<Incoming>, shared: Shared) -> io::Result<Response<Body>> {
    shared.seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
    match shared.mischief(&request) {
        None => shared.pass(request).await,
        Some(Mischief::CutBefore) => Err(cut()),
        Some(Mischief::CutAfter) => shared.pass(request).await.and(Err(cut())),
        Some(Mischief::Hang) => std::future::pending().await,
        Some(Mischief::Late(by)) => {
            let answer = shared.pass(request).await;
            tokio::time::sleep(by).await;
            answer
        }
        Some(Mischief::Answer(status, retry_after, body)) => {
            let mut answer = Response::builder().status(status);
            if let Some(seconds) = retry_after {
                answer = answer.header(header::RETRY_AFTER, seconds);
            }
            Ok(answer.body(Body::from(body.into_bytes())).unwrap())
        }
        Some(Mischief::Meanwhile(act)) => {
            tokio::task::spawn_blocking(move || act()).await.unwrap();
            shared.pass(request).await
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut")
}

impl Shared {
    fn mischief(&self, request: &Request<Incoming>) -> Option<Mischief> {
        let path = request.uri().to_string();
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.left > 0 && request.method() == rule.method && path.contains(&rule.path))?;
        rule.left -= 1;
        Some(rule.mischief.clone())
    }

    async fn pass(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (mut head, body) = request.into_parts();
        head.headers.remove(header::HOST);
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
        let answer = self.upstream.send(Request::from_parts(head, Body::from(body))).await;
        Ok(answer.unwrap_or_else(|error| {
            let mut answer = Response::new(Body::from(error.to_string().into_bytes()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }))
    }
}
