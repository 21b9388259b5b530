//! Running policies on an executor.

use super::{Client, reply};
use crate::Error;
use crate::records::{ExecutePolicy, Execution, Manage};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;

impl Client {
    /// Runs a policy once on an executor (`local` is the server's own). With `logs`, the result holds what the run
    /// printed and logged.
    pub async fn execute_policy(
        &self,
        executor: &str,
        run: &ExecutePolicy,
        logs: bool,
    ) -> Result<Execution, Error> {
        let mut url = self.path(&["executor", executor, "execute_policy"])?;
        if logs {
            url.set_query(Some("logs=true"));
        }
        let reply = self.call(self.request(Method::POST, url).json(run)).await?;
        Ok(Execution { data: reply.data, logs: reply.logs })
    }

    /// [`execute_policy`](Self::execute_policy) for programs that pass requests on: JSON text in and out as it is, and
    /// any status is a reply. `query` is the part after `?`, empty for none.
    pub async fn execute_raw(
        &self,
        executor: &str,
        body: Bytes,
        query: &str,
    ) -> Result<(StatusCode, Bytes), Error> {
        let mut url = self.path(&["executor", executor, "execute_policy"])?;
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let request = self
            .request(Method::POST, url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        let response = self.send(request).await?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| reply::unreachable(self.url(), error))?;
        Ok((status, body))
    }

    /// Sends a management command to a policy on an executor and returns what `management` returned.
    pub async fn execute_mgmt_command(&self, executor: &str, command: &Manage) -> Result<Value, Error> {
        Ok(self.post(&["executor", executor, "execute_mgmt_command"], command).await?.data)
    }
}
