//! Requests to other processes of Edict: executors, replicas in pods, other servers. A function's call waits for them, so
//! they cost no more than they must.

use super::link::{Failure, Link};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use dashmap::DashMap;
use http_body_util::{BodyExt, Full};
use hyper_util::client::proxy::matcher::Matcher;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a process may take to answer the first request on a connection, which asks whether it is there.
const GREETING: Duration = Duration::from_secs(3);
/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The open connections of this process to others.
pub(crate) struct Peers {
    /// For those behind TLS or a proxy.
    client: reqwest::Client,
    proxies: Option<Matcher>,
    /// Open connections that nobody uses, by address; the last one used is the first to be used again.
    idle: DashMap<(String, u16), Vec<Idle>>,
    swept: Mutex<Instant>,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// One other process, and what is presented to it.
pub(crate) struct Peer {
    peers: Arc<Peers>,
    /// Without a slash at the end.
    base: String,
    /// Where to connect to; none when TLS or a proxy is in between.
    address: Option<(String, u16)>,
    headers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The request has not been sent.
    Unsent,
    /// The process does not take the token: it was started anew, or another one has its address.
    NotLetIn,
    /// It was sent, and the time is up.
    Late,
    /// The connection ended in the middle.
    Broken,
}

impl Lost {
    /// Whether nothing of the request was carried out, so that it may be sent again.
    pub(crate) const fn is_untouched(self) -> bool {
        matches!(self, Self::Unsent | Self::NotLetIn)
    }

    /// What the other process did, or did not, as the end of a sentence.
    pub(crate) const fn problem(self) -> &'static str {
        match self {
            Self::Unsent => "it cannot be connected to",
            Self::NotLetIn => "it does not take this server's token",
            Self::Late => "it did not answer in time",
            Self::Broken => "it ended before it answered",
        }
    }
}

impl Peers {
    /// Connections that take the proxies which the environment names.
    pub(crate) fn new(client: reqwest::Client) -> Arc<Self> {
        Self::with(client, Some(Matcher::from_env()))
    }

    /// Connections that take no proxy.
    ///
    /// # Errors
    /// When there is no TLS.
    pub(crate) fn without_proxy() -> reqwest::Result<Arc<Self>> {
        Ok(Self::with(reqwest::Client::builder().no_proxy().build()?, None))
    }

    fn with(client: reqwest::Client, proxies: Option<Matcher>) -> Arc<Self> {
        Arc::new(Self { client, proxies, idle: DashMap::new(), swept: Mutex::new(Instant::now()) })
    }

    /// The process at `base`, a URL, which wants `token` unless it is empty.
    pub(crate) fn peer(self: &Arc<Self>, base: &str, token: &str) -> Peer {
        let base = base.trim_end_matches('/').to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !token.is_empty()
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}"))
        {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let address = self.direct(&base, &mut headers);
        Peer { peers: Arc::clone(self), base, address, headers }
    }

    /// Where to connect to for a URL without TLS, proxy and path; its `host` goes into `headers`.
    fn direct(&self, base: &str, headers: &mut HeaderMap) -> Option<(String, u16)> {
        let uri: Uri = base.parse().ok()?;
        let proxied = self.proxies.as_ref().is_some_and(|proxies| proxies.intercept(&uri).is_some());
        let authority = uri.authority()?;
        if proxied
            || uri.scheme_str() != Some("http")
            || uri.path() != "/"
            || authority.as_str().contains('@')
        {
            return None;
        }
        headers.insert(header::HOST, HeaderValue::from_str(authority.as_str()).ok()?);
        // An IPv6 address is in brackets there, and without them where names are looked up.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Some((host.to_owned(), authority.port_u16().unwrap_or(80)))
    }

    /// An open connection that nobody uses.
    fn take(&self, address: &(String, u16)) -> Option<Link> {
        let mut idle = self.idle.get_mut(address)?;
        while let Some(Idle { mut link, since }) = idle.pop() {
            if since.elapsed() < IDLE && link.is_open() {
                return Some(link);
            }
        }
        None
    }

    fn keep(&self, address: &(String, u16), link: Link) {
        let now = Instant::now();
        let kept = Idle { link, since: now };
        match self.idle.get_mut(address) {
            Some(mut idle) => idle.push(kept),
            None => self.idle.entry(address.clone()).or_default().push(kept),
        }
        self.sweep(now);
    }

    /// Closes what nobody has used for a while, now and then.
    fn sweep(&self, now: Instant) {
        let Ok(mut swept) = self.swept.try_lock() else { return };
        if now.duration_since(*swept) < IDLE {
            return;
        }
        *swept = now;
        self.idle.retain(|_, idle| {
            idle.retain(|idle| now.duration_since(idle.since) < IDLE);
            !idle.is_empty()
        });
    }
}

impl Peer {
    /// The same, with a header on every request.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sends a request and reads its whole answer within `limit`. `path` begins with a slash and may have a query.
    pub(crate) async fn send(
        &self,
        (method, path): (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<Response<Bytes>, Lost> {
        let answer = match &self.address {
            Some(address) => self.send_directly(address, (method, path), body, limit).await?,
            None => self.send_by_client((method, path), body, limit).await?,
        };
        match answer.status() {
            StatusCode::UNAUTHORIZED => Err(Lost::NotLetIn),
            _ => Ok(answer),
        }
    }

    async fn send_directly(
        &self,
        address: &(String, u16),
        (method, path): (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<Response<Bytes>, Lost> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Lost::Unsent)?;
        *request.headers_mut() = self.headers.clone();
        loop {
            let (mut link, fresh) = match self.peers.take(address) {
                Some(link) => (link, false),
                None => (self.connect(address).await?, true),
            };
            match tokio::time::timeout(limit, link.exchange(request)).await {
                Ok(Ok(answer)) => {
                    self.peers.keep(address, link);
                    return Ok(answer);
                }
                // It ended while nobody used it.
                Ok(Err(Failure::Unsent(unsent))) if !fresh => request = *unsent,
                Ok(Err(Failure::Unsent(_))) => return Err(Lost::Unsent),
                Ok(Err(Failure::Broken)) => return Err(Lost::Broken),
                Err(_) => return Err(Lost::Late),
            }
        }
    }

    /// Opens a connection, and sees that a process answers on it. The kernel alone takes connections for a process that does not,
    /// and for one that only keeps a port taken, as kube-proxy does in Kubernetes 1.20: a request would wait there for its whole
    /// time, without anybody's knowing that nothing of it has been carried out.
    async fn connect(&self, (host, port): &(String, u16)) -> Result<Link, Lost> {
        let opened = tokio::time::timeout(CONNECT, Link::open((host.as_str(), *port))).await;
        let mut link = opened.map_err(|_| Lost::Unsent)?.map_err(|_| Lost::Unsent)?;
        let mut greeting = Request::new(Full::default());
        *greeting.uri_mut() = Uri::from_static("/healthz");
        if let Some(host) = self.headers.get(header::HOST) {
            greeting.headers_mut().insert(header::HOST, host.clone());
        }
        let greeted = tokio::time::timeout(GREETING, link.exchange(greeting)).await;
        match greeted {
            Ok(Ok(_)) if link.is_open() => Ok(link),
            _ => Err(Lost::Unsent),
        }
    }

    async fn send_by_client(
        &self,
        (method, path): (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<Response<Bytes>, Lost> {
        let lost = |error: reqwest::Error| match error {
            error if error.is_connect() => Lost::Unsent,
            error if error.is_timeout() => Lost::Late,
            _ => Lost::Broken,
        };
        let request = self.peers.client.request(method, format!("{}{path}", self.base));
        let request = request.headers(self.headers.clone()).body(body).timeout(limit);
        let response: Response<reqwest::Body> = request.send().await.map_err(lost)?.into();
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(lost)?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::{get, post};
    use std::future::{pending, poll_fn};
    use std::net::SocketAddr;
    use std::pin::pin;
    use std::process::{Child, Command, Stdio};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        (listener, base)
    }

    /// Answers with the connection's other end, and with what it is sent.
    async fn serve() -> String {
        let (listener, base) = listen().await;
        let routes = Router::new()
            .route("/who", get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() }))
            .route("/last", get(|| async { ([(header::CONNECTION, "close")], "") }))
            .route("/echo", post(|headers: HeaderMap, body: Bytes| async move { (headers, body) }))
            .route("/never", get(pending::<()>))
            .layer(axum::extract::DefaultBodyLimit::disable());
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async { axum::serve(listener, service).await });
        base
    }

    fn peers() -> Arc<Peers> {
        rustls::crypto::ring::default_provider().install_default().ok();
        Peers::without_proxy().unwrap()
    }

    fn peer(base: &str) -> Peer {
        peers().peer(base, "")
    }

    async fn get_text(peer: &Peer, path: &str) -> Result<String, Lost> {
        let answer = peer.send((Method::GET, path), Bytes::new(), PATIENCE).await?;
        assert_eq!(answer.status(), 200);
        Ok(String::from_utf8(answer.into_body().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn connections_are_used_again_until_they_end() {
        let peer = peer(&serve().await);
        let first = get_text(&peer, "/who").await.unwrap();
        assert_eq!(get_text(&peer, "/who").await.unwrap(), first);
        get_text(&peer, "/last").await.unwrap();
        assert_ne!(get_text(&peer, "/who").await.unwrap(), first);
    }

    #[tokio::test]
    async fn requests_at_once_have_a_connection_each() {
        let peer = peer(&serve().await);
        let (one, other) = tokio::join!(get_text(&peer, "/who"), get_text(&peer, "/who"));
        assert_ne!(one.unwrap(), other.unwrap());
    }

    #[tokio::test]
    async fn headers_and_large_bodies_arrive() {
        let test = HeaderName::from_static("x-edict-test");
        let peer = peers().peer(&serve().await, "secret").header(test.clone(), HeaderValue::from_static("1"));
        let body = Bytes::from(vec![b'x'; 8 << 20]);
        for _ in 0..2 {
            let answer = peer.send((Method::POST, "/echo"), body.clone(), PATIENCE).await.unwrap();
            assert_eq!(answer.headers()["authorization"], "Bearer secret");
            assert_eq!(answer.headers()[&test], "1");
            assert!(*answer.body() == body, "another body came back");
        }
    }

    /// Answers one request.
    async fn answer(stream: &mut TcpStream) {
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "no request");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
    }

    #[tokio::test]
    async fn what_is_lost_says_whether_it_was_sent() {
        let (listener, base) = listen().await;
        let gone = peer(&base);
        let read = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream).await;
            stream.read(&mut [0; 4096]).await.unwrap()
        });
        assert_eq!(get_text(&gone, "/").await, Err(Lost::Broken));
        assert!(read.await.unwrap() > 0, "the request was not read");
        assert_eq!(get_text(&gone, "/").await, Err(Lost::Unsent));
        let peer = peer(&serve().await);
        let late = peer.send((Method::GET, "/never"), Bytes::new(), Duration::from_millis(20)).await;
        assert_eq!(late.unwrap_err(), Lost::Late);
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_port_that_nobody_serves() {
        let (_taken, base) = listen().await;
        assert_eq!(get_text(&peer(&base), "/").await, Err(Lost::Unsent));
    }

    /// A machine, as far as the network is concerned: removed with its processes when dropped.
    struct Machine {
        name: String,
        address: String,
        server: Child,
        _files: tempfile::TempDir,
    }

    impl Machine {
        /// None, with a line that says so, where this process may not make any. With `CI` set that fails.
        #[allow(clippy::print_stderr, reason = "a test says what it skips")]
        fn start() -> Option<Self> {
            let id = std::process::id();
            let name = format!("edict-{id}");
            if !ip(&format!("netns add {name}")) {
                assert!(std::env::var_os("CI").is_none(), "making a network namespace takes root, and `ip`");
                eprintln!("skipped: only root makes network namespaces");
                return None;
            }
            // The lower half of what is set apart for tests of networks.
            let network = format!("198.18.{}", id % 256);
            assert!(ip(&format!("link add {name} type veth peer name eth0 netns {name}")));
            assert!(ip(&format!("addr add {network}.1/24 dev {name}")) && ip(&format!("link set {name} up")));
            assert!(ip(&format!("-n {name} addr add {network}.2/24 dev eth0")));
            assert!(ip(&format!("-n {name} link set eth0 up")));
            let address = format!("{network}.2");
            let files = tempfile::tempdir().unwrap();
            std::fs::write(files.path().join("healthz"), "").unwrap();
            let server = ["netns", "exec", &name, "python3", "-m", "http.server", "8000", "--bind", &address];
            let server = Command::new("ip")
                .args(server)
                .args(["--protocol", "HTTP/1.1", "--directory"])
                .arg(files.path())
                .stderr(Stdio::null())
                .spawn();
            Some(Self { name, address, server: server.unwrap(), _files: files })
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            self.server.kill().ok();
            self.server.wait().ok();
            ip(&format!("link del {}", self.name));
            ip(&format!("netns del {}", self.name));
        }
    }

    fn ip(arguments: &str) -> bool {
        let command = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
        command.is_ok_and(|status| status.success())
    }

    #[tokio::test]
    async fn a_machine_that_vanished_is_noticed_before_a_request_s_time_is_up() {
        let Some(machine) = Machine::start() else { return };
        let peer = peer(&format!("http://{}:8000", machine.address));
        let end = Instant::now() + PATIENCE;
        while get_text(&peer, "/").await.is_err() {
            assert!(Instant::now() < end, "it does not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(ip(&format!("-n {} link set eth0 down", machine.name)));
        let sent = peer.send((Method::GET, "/"), Bytes::new(), 3 * PATIENCE).await;
        assert_eq!(sent.unwrap_err(), Lost::Broken);
    }

    #[tokio::test]
    async fn a_request_finds_a_connection_that_ended_meanwhile_and_takes_another() {
        let (listener, base) = listen().await;
        let peer = peer(&base);
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                answer(&mut stream).await;
                answer(&mut stream).await;
            }
        });
        assert_eq!(get_text(&peer, "/").await.unwrap(), "hi");
        let address = peer.address.as_ref().unwrap();
        // The runtime hears of the end when it next looks.
        poll_fn(|context| match peer.peers.idle.get_mut(address).unwrap()[0].link.is_open() {
            true => {
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            false => std::task::Poll::Ready(()),
        })
        .await;
        assert_eq!(get_text(&peer, "/").await.unwrap(), "hi");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_is_polled_for_what_comes_from_outside_alone() {
        let peer = peer(&serve().await);
        get_text(&peer, "/who").await.unwrap();
        let (mut request, mut polls) = (pin!(get_text(&peer, "/who")), 0);
        poll_fn(|context| {
            polls += 1;
            request.as_mut().poll(context)
        })
        .await
        .unwrap();
        assert_eq!(polls, 2, "one to send the request, one when its answer has come");
    }

    #[test]
    fn only_what_is_neither_encrypted_nor_proxied_is_connected_to() {
        let proxies = Matcher::builder().http("http://proxy:3128").no("near.example").build();
        let peers = Peers::with(peers().client.clone(), Some(proxies));
        let address = |base| peers.peer(base, "").address;
        assert_eq!(address("http://near.example"), Some(("near.example".to_owned(), 80)));
        assert_eq!(address("http://far.example:8080/"), None);
        assert_eq!(address("https://near.example"), None);
        assert_eq!(address("http://near.example/below"), None);
        assert_eq!(peer("http://[::1]:8080/").address, Some(("::1".to_owned(), 8080)));
    }
}
