//! One request to the API server: under a time limit, never sent twice, every failure named.

use crate::{Cluster, Fault, Right};
use futures::{Stream, StreamExt};
use http::{Request, header::RETRY_AFTER};
use http_body_util::BodyExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{
    DeleteParams, GetParams, ListParams, ObjectList, Patch, PatchParams, WatchEvent, WatchParams,
};
use kube::client::Body;
use kube::core::{Status, request};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// A kind of object in one namespace.
pub(crate) trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> {}

impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Kind for K {}

/// What to ask for, and the right that it takes.
pub(crate) struct Call {
    right: Right,
    request: Result<Request<Vec<u8>>, request::Error>,
}

impl Call {
    fn new<K: Kind>(
        verb: &'static str,
        namespace: &str,
        build: impl FnOnce(request::Request) -> Result<Request<Vec<u8>>, request::Error>,
    ) -> Self {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
        let request = build(request::Request::new(K::url_path(&(), Some(namespace))));
        Self { right: Right { verb, resource, namespace: namespace.to_owned() }, request }
    }

    /// A request that no type of ours stands for.
    pub(crate) fn custom(
        right: Right,
        path: String,
        build: impl FnOnce(request::Request) -> Result<Request<Vec<u8>>, request::Error>,
    ) -> Self {
        Self { right, request: build(request::Request::new(path)) }
    }
}

impl Cluster {
    /// An object, as far as `T` reads it; None if there is none.
    pub(crate) async fn get<K: Kind, T: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, Fault> {
        self.ask(Call::new::<K>("get", namespace, |path| path.get(name, &GetParams::default()))).await
    }

    /// Objects, and the version from which a watch sees what comes after.
    pub(crate) async fn list<K: Kind, T: DeserializeOwned + Clone>(
        &self,
        namespace: &str,
        params: &ListParams,
    ) -> Result<(Vec<T>, String), Fault> {
        let list: Option<ObjectList<T>> =
            self.ask(Call::new::<K>("list", namespace, |path| path.list(params))).await?;
        let version = |list: &ObjectList<T>| list.metadata.resource_version.clone().unwrap_or_default();
        Ok(list
            .map(|list| (version(&list), list.items))
            .map(|(version, items)| (items, version))
            .unwrap_or_default())
    }

    /// The object as it is after the patch; None if there is none to be patched.
    pub(crate) async fn patch<K: Kind, T: DeserializeOwned>(
        &self,
        (namespace, name): (&str, &str),
        dry_run: bool,
        patch: &Patch<Value>,
    ) -> Result<Option<T>, Fault> {
        let field_manager = Some("edict".to_owned());
        let params = PatchParams { dry_run, field_manager, ..PatchParams::default() };
        self.ask(Call::new::<K>("patch", namespace, |path| path.patch(name, &params, patch))).await
    }

    /// What the API server says of the object that it deletes; None if there is none.
    pub(crate) async fn delete<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<Option<Value>, Fault> {
        self.ask(Call::new::<K>("delete", namespace, |path| path.delete(name, params))).await
    }

    /// The changes of objects since a version.
    pub(crate) async fn watch<K: Kind + DeserializeOwned + Clone>(
        &self,
        namespace: &str,
        params: &WatchParams,
        since: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<K>, Fault>> + use<K>, Fault> {
        let call = Call::new::<K>("watch", namespace, |path| path.watch(params, since));
        let (right, request) = (call.right, call.request.map_err(unbuildable)?);
        let client = self.client();
        let events = tokio::time::timeout(self.timeout(), client.request_events::<K>(request)).await;
        let events = events.map_err(|_| Fault::Timeout { after: self.timeout(), uncertain: false })?;
        let events = events.map_err(|error| of(&error, &right))?;
        Ok(events.map(move |event| event.map_err(|error| of(&error, &right))))
    }

    /// Sends a request. None: there is no such object.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<Option<T>, Fault> {
        let Call { right, request } = call;
        let request = request.map_err(unbuildable)?;
        let mut answer = self.limited(&self.client(), &right, request.clone()).await;
        // No change is sent twice by this: whoever is not let in has changed nothing.
        if let Err(Fault::Unauthorized { message }) = &answer {
            tracing::warn!(error = %message, "the cluster does not accept the credentials; reading them again");
            if let Ok(client) = self.reconnect().await {
                answer = self.limited(&client, &right, request).await;
            }
        }
        let Some(body) = answer? else { return Ok(None) };
        let read = serde_json::from_slice(&body).map(Some);
        read.map_err(|error| {
            let message = format!("what answers is no Kubernetes API server, or a strange one: {error}");
            Fault::Unavailable { message, uncertain: right.changes() }
        })
    }

    /// Asks for text, of which the last `most` bytes are kept. None: there is no such object.
    pub(crate) async fn text(&self, call: Call, most: usize) -> Result<Option<String>, Fault> {
        let Call { right, request } = call;
        let request = request.map_err(unbuildable)?;
        let after = self.timeout();
        let read = async {
            let Some(mut body) = open(&self.client(), &right, request).await? else { return Ok(None) };
            let mut kept = VecDeque::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| Fault::transport(&error, &right))?;
                kept.extend(frame.data_ref().into_iter().flatten());
                kept.drain(..kept.len().saturating_sub(most));
            }
            Ok(Some(String::from_utf8_lossy(kept.make_contiguous()).into_owned()))
        };
        tokio::time::timeout(after, read).await.unwrap_or(Err(Fault::Timeout { after, uncertain: false }))
    }

    async fn limited(
        &self,
        client: &Client,
        right: &Right,
        request: Request<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let after = self.timeout();
        let late = Fault::Timeout { after, uncertain: right.changes() };
        tokio::time::timeout(after, send(client, right, request)).await.unwrap_or(Err(late))
    }
}

async fn send(client: &Client, right: &Right, request: Request<Vec<u8>>) -> Result<Option<Vec<u8>>, Fault> {
    let Some(body) = open(client, right, request).await? else { return Ok(None) };
    let body = body.collect().await.map_err(|error| Fault::transport(&error, right))?.to_bytes();
    Ok(Some(body.to_vec()))
}

/// The body of the answer, if it is a success.
async fn open(client: &Client, right: &Right, request: Request<Vec<u8>>) -> Result<Option<Body>, Fault> {
    let response =
        client.send(request.map(Body::from)).await.map_err(|error| Fault::transport(&error, right))?;
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        return Ok(Some(body));
    }
    let body = body.collect().await.map_err(|error| Fault::transport(&error, right))?.to_bytes();
    // Proxies on the way, and the API server when it has too much to do, answer in plain text.
    let text = || Status::failure(&String::from_utf8_lossy(&body), "");
    let status: Status = serde_json::from_slice(&body).unwrap_or_else(|_| text());
    let status = status.with_code(head.status.as_u16());
    if status.code == 404 && status.reason == "NotFound" {
        return Ok(None);
    }
    let seconds = head.headers.get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    Err(Fault::answer(&status, seconds.map(Duration::from_secs), right))
}

/// What an error of kube-rs means.
fn of(error: &kube::Error, right: &Right) -> Fault {
    match error {
        kube::Error::Api(status) => Fault::answer(status, None, right),
        error => Fault::transport(error, right),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "stands where an error is mapped")]
fn unbuildable(error: request::Error) -> Fault {
    Fault::Refused { message: error.to_string() }
}
