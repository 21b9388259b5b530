//! Functions (Type 4): policies deployed as long-lived services.
//!
//! The records are in the database; each executor's [`fleet`] keeps replicas as they say. Calls go to the fleet of this
//! process, or on to the process whose fleet runs the function.

pub(crate) mod assigned;
pub(crate) mod call;
pub(crate) mod changes;
pub(crate) mod code;
pub(crate) mod context;
pub(crate) mod create;
pub(crate) mod fleet;
mod home;
pub(crate) mod logs;
pub(crate) mod manage;
pub(crate) mod pod;
pub(crate) mod process;
pub(crate) mod query;
pub(crate) mod read;
mod record;
pub(crate) mod remove;
mod room;
mod route;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod update;
mod wait;

use crate::error::{ApiError, Code};
use crate::executors::LOCAL;
use crate::executors::address::RETRY;
use crate::executors::wake::Wakes;
use crate::http::Peers;
use crate::policies::registry::Registry;
use crate::store::documents::{Collection, Document};
use axum::http::Method;
use bytes::Bytes;
use dashmap::DashMap;
use edict_client::records::Function;
use edict_filter::{Column, Kind, Table};
use fleet::{Fleet, Service};
use route::{Reply, Route};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::futures::Notified;

pub(crate) const FUNCTIONS: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "function_id", sql: "key", kind: Kind::Text },
            Column { path: "function_executor_id", sql: "function_executor_id", kind: Kind::Text },
            Column { path: "function_policy_rule_uri", sql: "function_policy_rule_uri", kind: Kind::Text },
            Column { path: "function_status.state", sql: "state", kind: Kind::Text },
            Column { path: "created_at", sql: "created_at", kind: Kind::Text },
        ],
    },
    name: "functions",
    noun: "function",
    own_fields: &record::OWN_FIELDS,
    not_found: Code::FunctionNotFound,
    exists: Code::FunctionExists,
};

/// The functions that this process can call: its own executor's, and through their executors all others.
pub(crate) struct Functions {
    registry: Arc<Registry>,
    /// Those of `local`, if this server is the one to run them.
    pub(crate) fleet: Arc<Fleet>,
    wakes: Arc<Wakes>,
    peers: Arc<Peers>,
    /// How long a request waits for a function that is elsewhere, and cannot be reached there.
    patience: Duration,
    /// Where the others are.
    routes: DashMap<String, Arc<Route>>,
}

/// Where a function runs.
enum Place {
    Here(Arc<Service>),
    There(Arc<Route>),
}

impl Functions {
    pub(crate) fn new(
        registry: Arc<Registry>,
        fleet: Arc<Fleet>,
        wakes: Arc<Wakes>,
        (peers, patience): (Arc<Peers>, Duration),
    ) -> Self {
        Self { registry, fleet, wakes, peers, patience, routes: DashMap::new() }
    }

    /// Calls a function: its input is checked, a replica evaluates it, its output is checked. A call waits for a while when
    /// its function is on its way to another server, or its executor is being started anew.
    ///
    /// # Errors
    /// 404 when there is no such function, 422 when the input does not fit, 429 when its queue is full, 502 when the
    /// policy fails or its replica ends, 503 when no replica takes calls, 504 when time runs out.
    pub(crate) async fn call(&self, name: &str, input: &RawValue) -> Result<Box<RawValue>, ApiError> {
        if let Some(service) = self.fleet.service(name) {
            return service.call(input).await;
        }
        let body = Bytes::copy_from_slice(input.get().as_bytes());
        let path = format!("/function/call_function/{name}");
        let here = |service: Arc<Service>| async move { Ok(Reply { data: service.call(input).await? }) };
        Ok(self.reach(name, (Method::POST, &path, body), here).await?.data)
    }

    /// Does `here` with a function that runs in this process, and sends the request on where it runs in another one. What
    /// cannot be carried out because the function is on its way to another server, or its executor is being started anew, is
    /// tried again for a while.
    async fn reach<T: DeserializeOwned, F: Future<Output = Result<T, ApiError>>>(
        &self,
        name: &str,
        (method, path, body): (Method, &str, Bytes),
        here: impl Fn(Arc<Service>) -> F,
    ) -> Result<T, ApiError> {
        let end = Instant::now() + self.patience;
        loop {
            let done = match self.place(name).await {
                Ok(Place::Here(service)) => here(service).await,
                Ok(Place::There(route)) => match route.send((method.clone(), path), body.clone()).await {
                    Ok(response) => route::read(&response),
                    Err(lost) if route.may_return(lost) && Instant::now() < end => {
                        // Another request that waits may just have found the way anew.
                        self.routes.remove_if(name, |_, route| route.age() >= RETRY);
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                    Err(lost) => return Err(route.unreachable(&self.registry.store, lost).await),
                },
                Err(error) => Err(error),
            };
            match done {
                Err(error) if route::is_moving(&error) && Instant::now() < end => {
                    tokio::time::sleep(RETRY).await;
                }
                done => return done,
            }
        }
    }

    /// Where a function runs.
    ///
    /// # Errors
    /// 404 when there is none, 502 when its executor has no address.
    async fn place(&self, name: &str) -> Result<Place, ApiError> {
        if let Some(service) = self.fleet.service(name) {
            return Ok(Place::Here(service));
        }
        if let Some(route) = self.routes.get(name).filter(|route| route.is_fresh()) {
            return Ok(Place::There(Arc::clone(&route)));
        }
        let document = FUNCTIONS.get(&self.registry.store, name).await?;
        let function: Function = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
        let route = if function.function_executor_id == LOCAL {
            // It may just have been deployed, or its server may be gone.
            self.fleet.sync().await?;
            if let Some(service) = self.fleet.service(name) {
                return Ok(Place::Here(service));
            }
            Route::to_holder(&self.fleet, &self.peers, &function).await?
        } else {
            Route::to_executor(&self.registry.store, (&self.peers, self.patience), &function).await?
        };
        let route = Arc::new(route);
        self.routes.insert(name.to_owned(), Arc::clone(&route));
        Ok(Place::There(route))
    }

    /// Tells those concerned that a function was deployed, updated or removed.
    pub(crate) async fn changed(&self, name: &str, document: &Document) {
        self.forget(name);
        let function: Result<Function, _> = serde_json::from_str(document.doc.get());
        let Ok(function) = function else { return };
        if function.function_executor_id != LOCAL {
            self.wakes.ring(&function.function_executor_id);
        } else if let Err(error) = self.fleet.sync().await {
            tracing::warn!(
                function = name,
                error = error.message(),
                "the change takes effect a little later"
            );
        }
    }

    /// Drops what is kept in memory of a function, since it changed.
    pub(crate) fn forget(&self, name: &str) {
        self.routes.remove(name);
        self.wakes.local.ring();
    }

    /// Drops everything that is kept in memory, since changes may have been missed.
    pub(crate) fn forget_all(&self) {
        self.routes.clear();
        self.wakes.local.ring();
    }

    /// A function's status has been written.
    pub(crate) fn reported(&self) {
        self.fleet.reports().notify_waiters();
    }

    /// Resolves with the next status that is written by way of this server.
    fn next_report(&self) -> Notified<'_> {
        self.fleet.reports().notified()
    }
}
