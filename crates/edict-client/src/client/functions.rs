//! `/function`: policies deployed as long-lived services.

use super::{Client, Listing, Page, Stored};
use crate::Error;
use crate::records::{Function, FunctionLog, ManageFunction, ReplicaAnswer};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// What a management command to a function gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Managed {
    /// What `management` returned.
    pub data: Value,
    /// Each replica's own answer.
    pub replicas: Vec<ReplicaAnswer>,
}

impl Client {
    /// Deploys a policy as a function: a [`DeployFunction`](crate::records::DeployFunction), or any JSON of that shape.
    /// Without an executor the server's allocator chooses one. Replicas are still being started when this returns.
    pub async fn deploy_function(
        &self,
        executor: Option<&str>,
        function: &(impl Serialize + ?Sized),
    ) -> Result<Function, Error> {
        let mut segments = vec!["function", "deployments", "create"];
        segments.extend(executor);
        Ok(self.post(&segments, function).await?.data)
    }

    /// Changes a function: `change` is some fields of a deployment (`{"replicas": 3}`), or an object of update operators
    /// on its record. Its replicas are replaced one after the other, and no call fails.
    ///
    /// With `if_match`, only if the record still has that revision; otherwise the error is a conflict.
    pub async fn update_function(
        &self,
        name: &str,
        change: &(impl Serialize + ?Sized),
        if_match: Option<u64>,
    ) -> Result<Stored<Function>, Error> {
        Ok(self.put(&["function", "deployments", name], change, if_match).await?.stored())
    }

    /// Removes a function and its replicas.
    pub async fn remove_function(&self, name: &str) -> Result<(), Error> {
        self.delete(&["function", "deployments", "remove", name]).await
    }

    /// Has a replica evaluate `input`, and returns what `eval` returned.
    pub async fn call_function(&self, name: &str, input: &(impl Serialize + ?Sized)) -> Result<Value, Error> {
        Ok(self.post(&["function", "call_function", name], input).await?.data)
    }

    /// Sends a management command to every replica; later ones get what it changed too.
    pub async fn manage_function(&self, name: &str, command: &ManageFunction) -> Result<Managed, Error> {
        let reply = self.post(&["function", "management", name], command).await?;
        Ok(Managed { data: reply.data, replicas: reply.replicas })
    }

    /// Reads a function; with `wait`, as soon as its replicas are as they should be or fail, or as it is when that time
    /// is over.
    pub async fn get_function(&self, name: &str, wait: Option<Duration>) -> Result<Function, Error> {
        self.get_waiting(&["function", name], wait).await
    }

    /// What the replicas printed and logged last, oldest first; at most `limit` lines, the server's default if `None`.
    pub async fn function_logs(&self, name: &str, limit: Option<u64>) -> Result<Vec<FunctionLog>, Error> {
        let mut url = self.path(&["function", name, "logs"])?;
        if let Some(limit) = limit {
            url.query_pairs_mut().append_pair("limit", &limit.to_string());
        }
        Ok(self.call(self.request(Method::GET, url)).await?.data)
    }

    /// Finds functions with a Mongo-style filter; `{}` finds all. `T` is [`Function`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_functions<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        self.query(&["function", "query"], filter, page).await
    }
}
