//! `/graphs` and `/graph`: functions that feed each other, and their runs.

use super::{Client, Listing, Page, Stored, reply};
use crate::Error;
use crate::records::{ExecuteGraph, Graph, GraphExecution, GraphPlan, GraphRun, Seconds};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

impl Client {
    /// Registers a graph: a [`Graph`], or any JSON of that shape.
    pub async fn create_graph(&self, graph: &(impl Serialize + ?Sized)) -> Result<Stored<Graph>, Error> {
        Ok(self.post(&["graphs"], graph).await?.stored())
    }

    /// Checks a graph as [`create_graph`](Self::create_graph) would, and tells how it would run. Nothing is stored.
    pub async fn check_graph(&self, graph: &(impl Serialize + ?Sized)) -> Result<GraphPlan, Error> {
        Ok(self.post(&["graphs", "check"], graph).await?.data)
    }

    /// Reads a graph.
    pub async fn get_graph(&self, uri: &str) -> Result<Graph, Error> {
        self.get(&["graphs", uri]).await
    }

    /// Changes a graph: `change` is a full record, or an object of update operators such as `$set`.
    ///
    /// With `if_match`, only if the record still has that revision; otherwise the error is a conflict.
    pub async fn update_graph(
        &self,
        uri: &str,
        change: &(impl Serialize + ?Sized),
        if_match: Option<u64>,
    ) -> Result<Stored<Graph>, Error> {
        Ok(self.put(&["graphs", uri], change, if_match).await?.stored())
    }

    /// Removes a graph; its functions and recorded runs stay.
    pub async fn delete_graph(&self, uri: &str) -> Result<(), Error> {
        self.delete(&["graphs", uri]).await
    }

    /// Finds graphs with a Mongo-style filter; `{}` finds all. `T` is [`Graph`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_graphs<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        self.query(&["graphs", "query"], filter, page).await
    }

    /// Runs a graph. With `trace`, the result holds what each node got, gave, and how long it took.
    ///
    /// The run may take its own time limit (60 s when the request names none) on top of the usual time for a call.
    pub async fn execute_graph(&self, run: &ExecuteGraph, trace: bool) -> Result<GraphExecution, Error> {
        let mut url = self.path(&["graph", "execute_graph"])?;
        if trace {
            url.set_query(Some("trace=true"));
        }
        let limit = run.timeout.map_or(Duration::from_secs(60), Seconds::duration);
        let request = self
            .request_without_timeout(Method::POST, url)
            .timeout(self.inner.timeout.saturating_add(limit))
            .json(run);
        let response = reply::refused(self.send(request).await?, self.url()).await?;
        reply::read(response, self.url()).await
    }

    /// Reads a recorded run.
    pub async fn get_graph_run(&self, run_id: &str) -> Result<GraphRun, Error> {
        self.get(&["graph", "runs", run_id]).await
    }

    /// Finds recorded runs with a Mongo-style filter; `{}` finds all. `T` is [`GraphRun`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_graph_runs<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        self.query(&["graph", "runs", "query"], filter, page).await
    }
}
