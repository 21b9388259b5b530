//! The typed client: one file per resource, and here what they share.

mod actions;
mod assets;
mod attempts;
mod audit;
mod build;
mod decision_log;
mod decisions;
mod executions;
mod executors;
mod fleet;
mod functions;
mod graphs;
mod infra;
mod jobs;
mod policies;
mod reply;

pub use assets::{Content, Download, NewAsset};
pub use audit::AuditFilter;
pub use build::Builder;
pub use decision_log::DecisionFilter;
pub use functions::Managed;
pub use policies::PolicyCode;

use crate::Error;
use reply::Reply;
use reqwest::header::{AUTHORIZATION, HeaderValue, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A connection pool to one policy system (or one executor). Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    base: Url,
    http: reqwest::Client,
    token: Option<HeaderValue>,
    timeout: Duration,
}

/// Which records of a query's result to return, and in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most so many; the server's default when `None`.
    pub limit: Option<u64>,
    /// Leave out so many first.
    pub skip: Option<u64>,
    /// Fields to sort by, `-` in front for descending.
    pub sort: Vec<String>,
    /// Only these fields of each record; everything when empty. Read such records as
    /// [`Object`](crate::records::Object), since the typed ones need all required fields.
    pub fields: Vec<String>,
}

/// One page of a query's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing<T> {
    /// The records, in order.
    pub records: Vec<T>,
    /// Whether more follow after these.
    pub has_more: bool,
}

/// A record that was created or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// The record as it is now.
    pub record: T,
    /// What the caller should know although the call succeeded.
    pub warnings: Vec<String>,
    /// The record's new URI, when the change moved it.
    pub moved_to: Option<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.inner.base.as_str())
            .field("timeout", &self.inner.timeout)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the defaults of [`Client::builder`].
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, Error> {
        let builder = Self::builder(url);
        match token {
            Some(token) => builder.token(token)?.build(),
            None => builder.build(),
        }
    }

    /// Sets up a client for the server at `url`, for example `http://127.0.0.1:5000`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        self.inner.base.as_str().trim_end_matches('/')
    }

    /// Whether the server runs (`/healthz`).
    pub async fn health(&self) -> Result<(), Error> {
        self.probe("healthz").await
    }

    /// Whether the server can do its work (`/readyz`); the error tells what is missing.
    pub async fn ready(&self) -> Result<(), Error> {
        self.probe("readyz").await
    }

    async fn probe(&self, path: &str) -> Result<(), Error> {
        let response = self.send(self.request(Method::GET, self.path(&[path])?)).await?;
        reply::refused(response, self.url()).await.map(drop)
    }

    /// The address of a path made of `segments`.
    ///
    /// A segment that is empty, `.` or `..` is refused: URLs resolve them away, and the call would reach another
    /// route than the one that is meant, such as a whole collection.
    fn path(&self, segments: &[&str]) -> Result<Url, Error> {
        if let Some(bad) = segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(Error::Invalid(format!(
                "`{bad}` cannot be the name of a record; give its full URI or id"
            )));
        }
        let mut url = self.inner.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Ok(url)
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.request_without_timeout(method, url).timeout(self.inner.timeout)
    }

    fn request_without_timeout(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.inner.http.request(method, url);
        match &self.inner.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        request.send().await.map_err(|error| reply::unreachable(self.url(), error))
    }

    /// Sends a request and reads the envelope `{"success": true, "data": …}`.
    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Reply<T>, Error> {
        let response = reply::refused(self.send(request).await?, self.url()).await?;
        reply::read(response, self.url()).await
    }

    async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, Error> {
        Ok(self.call(self.request(Method::GET, self.path(segments)?)).await?.data)
    }

    /// Reads a record that the server may take `wait` to show, on top of the usual time for a call.
    async fn get_waiting<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        wait: Option<Duration>,
    ) -> Result<T, Error> {
        let mut url = self.path(segments)?;
        let wait = wait.unwrap_or_default();
        if !wait.is_zero() {
            url.query_pairs_mut().append_pair("wait", &format!("{}ms", wait.as_millis()));
        }
        let request = self.request_without_timeout(Method::GET, url).timeout(self.inner.timeout + wait);
        Ok(self.call(request).await?.data)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<Reply<T>, Error> {
        self.call(self.request(Method::POST, self.path(segments)?).json(body)).await
    }

    async fn put<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &(impl Serialize + ?Sized),
        if_match: Option<u64>,
    ) -> Result<Reply<T>, Error> {
        let request = self.request(Method::PUT, self.path(segments)?).json(body);
        let request = match if_match {
            Some(revision) => request.header(IF_MATCH, revision),
            None => request,
        };
        self.call(request).await
    }

    async fn patch<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<Reply<T>, Error> {
        self.call(self.request(Method::PATCH, self.path(segments)?).json(body)).await
    }

    async fn delete(&self, segments: &[&str]) -> Result<(), Error> {
        let response = self.send(self.request(Method::DELETE, self.path(segments)?)).await?;
        reply::refused(response, self.url()).await.map(drop)
    }

    async fn query<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        let mut url = self.path(segments)?;
        page.write_to(&mut url);
        let reply = self.call(self.request(Method::POST, url).json(filter)).await?;
        Ok(Listing { records: reply.data, has_more: reply.has_more })
    }
}

impl Page {
    fn write_to(&self, url: &mut Url) {
        let numbers = [("limit", self.limit), ("skip", self.skip)];
        let lists = [("sort", &self.sort), ("fields", &self.fields)];
        for (name, number) in numbers {
            if let Some(number) = number {
                url.query_pairs_mut().append_pair(name, &number.to_string());
            }
        }
        for (name, list) in lists {
            if !list.is_empty() {
                url.query_pairs_mut().append_pair(name, &list.join(","));
            }
        }
    }
}
