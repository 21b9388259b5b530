//! Setting up a client.

use super::{Client, Inner};
use crate::Error;
use reqwest::Url;
use reqwest::header::HeaderValue;
use std::sync::{Arc, Once};
use std::time::Duration;

/// Long enough for the first run of a policy that has to install its requirements.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A server that is there accepts within this time, even far away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client is made of; see [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    url: String,
    token: Option<HeaderValue>,
    timeout: Duration,
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), token: None, timeout: DEFAULT_TIMEOUT }
    }

    /// Presents this token with every call.
    pub fn token(mut self, token: &str) -> Result<Self, Error> {
        let value = authorization(token).ok_or_else(|| {
            Error::Invalid(
                "the token is empty or holds characters that cannot be sent; give it exactly as it was issued"
                    .to_owned(),
            )
        })?;
        self.token = Some(value);
        Ok(self)
    }

    /// How long a call may take from start to end (120 s by default). Uploads get the time their size needs on
    /// top; a download may pause for so long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks what was given; connects to nothing yet.
    pub fn build(self) -> Result<Client, Error> {
        let base = parse(&self.url)?;
        install_crypto();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("edict/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        if is_loopback(&base) {
            // A proxy from the environment would look for the server on its own machine.
            http = http.no_proxy();
        }
        if base.scheme() == "http" {
            // Loading the machine's certificates takes time and fails where there are none, as in a small container.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| {
            Error::Invalid(format!(
                "cannot set up connections to `{}`: {}",
                base,
                super::reply::innermost(&error)
            ))
        })?;
        Ok(Client { inner: Arc::new(Inner { base, http, token: self.token, timeout: self.timeout }) })
    }
}

fn parse(text: &str) -> Result<Url, Error> {
    let refuse = |what: &str| {
        Error::Invalid(format!("the server's address {what}; it looks like `http://127.0.0.1:5000`"))
    };
    let url = Url::parse(text.trim()).map_err(|error| refuse(&format!("`{text}` is not a URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refuse(&format!("`{text}` does not start with http:// or https:// and a host")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Addresses are shown in messages; the text is left out here for the same reason.
        return Err(refuse("holds a user name or a password; give a token instead"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(&format!("`{text}` must end before `?` and `#`")));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// TLS needs one provider per process; a program that chose another before keeps it.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing the race against another thread that installs one is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
    });
}

/// INVARIANT (secret token): a token's text is kept only in this header value, marked sensitive, so that neither this
/// crate nor a layer below prints it.
fn authorization(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
