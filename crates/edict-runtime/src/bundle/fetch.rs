//! Downloading a bundle.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::{Limits, size};

const REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How bundles are downloaded. Make it once: it holds the connections.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// [`Limits::packed`] is the most that is downloaded.
    pub limits: Limits,
    /// Longest time for a download, redirects included (60 s).
    pub timeout: Duration,
    /// The HTTP client, which follows a few redirects.
    pub client: Client,
}

impl FetchOptions {
    /// The defaults with a client of its own. Fails when TLS cannot be set up.
    pub fn new(limits: Limits) -> Result<Self, FetchError> {
        // The first provider installed stays; it does not matter whose it is.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::limited(REDIRECTS))
            .user_agent(concat!("edict/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| FetchError::Client { reason: causes(&error) })?;
        Ok(Self { limits, timeout: Duration::from_secs(60), client })
    }
}

/// Why a download failed. Addresses in messages are without user, password and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Not an address that can be fetched.
    #[error("`{url}` is not an http or https URL")]
    BadUrl {
        /// The address.
        url: String,
    },
    /// The host does not answer now, and may later.
    #[error("`{url}` cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// DNS, connection, time limit, a 5xx status…
        reason: String,
    },
    /// The host answers that it will not give this.
    #[error("`{url}` was refused: {reason}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status of the answer, absent when there were too many redirects.
        status: Option<u16>,
        /// What was answered.
        reason: String,
    },
    /// What is there is larger than the limit.
    #[error("`{url}` is larger than the limit of {}", size(*limit))]
    TooLarge {
        /// The address.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
}

/// Downloads `url` into memory.
pub async fn fetch(url: &str, options: &FetchOptions) -> Result<Bytes, FetchError> {
    let bad_url = || FetchError::BadUrl { url: url.chars().take(200).collect() };
    let parsed = Url::parse(url).map_err(|_| bad_url())?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad_url());
    }
    let address = plain(&parsed);
    let Ok(result) = tokio::time::timeout(options.timeout, download(parsed, &address, options)).await else {
        let reason = format!("no complete answer within {:?}", options.timeout);
        return Err(FetchError::Unreachable { url: address, reason });
    };
    result
}

async fn download(url: Url, address: &str, options: &FetchOptions) -> Result<Bytes, FetchError> {
    let failed = |error: reqwest::Error| failure(address, error);
    let response = options.client.get(url).send().await.map_err(failed)?;
    check_status(address, response.status())?;
    let limit = options.limits.packed;
    let too_large = || FetchError::TooLarge { url: address.to_owned(), limit };
    // A declared length spares the download; only the bytes counted below decide.
    if response.content_length().is_some_and(|declared| declared > limit) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(failed)?;
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn check_status(address: &str, status: StatusCode) -> Result<(), FetchError> {
    if status.is_success() {
        return Ok(());
    }
    let (url, reason) = (address.to_owned(), format!("the server answered {status}"));
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || later.contains(&status) {
        return Err(FetchError::Unreachable { url, reason });
    }
    Err(FetchError::Refused { url, status: Some(status.as_u16()), reason })
}

fn failure(address: &str, error: reqwest::Error) -> FetchError {
    let url = address.to_owned();
    if error.is_redirect() {
        let reason = format!("it redirects more than {REDIRECTS} times");
        return FetchError::Refused { url, status: None, reason };
    }
    // Also connections that break off in the middle: whether the code is good is not known yet.
    FetchError::Unreachable { url, reason: causes(&error.without_url()) }
}

/// An error's message with its causes, e.g. `error sending request: tcp connect error: connection refused`.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The address without what may be secret in it: user, password, query (signed URLs), fragment.
fn plain(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for addresses that have no host, which http(s) ones do.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}
