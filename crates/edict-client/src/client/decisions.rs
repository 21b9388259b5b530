//! `/api/v1/policy` of the policy engine. Make the [`Client`] with the engine's own address, `http://127.0.0.1:3000` for
//! instance.

use super::{Client, Listing, Page, reply};
use crate::Error;
use crate::records::{
    BatchDecisions, Decision, DecisionFolder, DecisionPolicy, DecisionRequest, ExplainedDecision,
    ImportedDecisionPolicies, StoredDecisionPolicy,
};
use reqwest::header::IF_MATCH;
use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found<T> {
    policies: Vec<T>,
    has_more: bool,
}

impl Client {
    /// Asks whether an action is allowed.
    pub async fn evaluate(&self, request: &DecisionRequest) -> Result<Decision, Error> {
        self.plain(self.request(Method::POST, self.engine(&["evaluate"])?).json(request)).await
    }

    /// Asks whether an action is allowed, and why each decision policy did or did not apply.
    pub async fn explain(&self, request: &DecisionRequest) -> Result<ExplainedDecision, Error> {
        let mut url = self.engine(&["evaluate"])?;
        url.set_query(Some("explain=true"));
        self.plain(self.request(Method::POST, url).json(request)).await
    }

    /// Asks several at once, up to 1,000; all are decided by the same policies.
    pub async fn evaluate_batch(&self, requests: &[DecisionRequest]) -> Result<BatchDecisions, Error> {
        let url = self.engine(&["evaluate", "batch"])?;
        self.plain(self.request(Method::POST, url).json(&json!({"requests": requests}))).await
    }

    /// Creates a decision policy: a [`DecisionPolicy`], or any JSON of that shape.
    pub async fn create_decision_policy(
        &self,
        policy: &(impl Serialize + ?Sized),
    ) -> Result<StoredDecisionPolicy, Error> {
        self.plain(self.request(Method::POST, self.engine(&[])?).json(policy)).await
    }

    /// Reads a decision policy, by its id or its name.
    pub async fn get_decision_policy(&self, id: &str) -> Result<DecisionPolicy, Error> {
        self.plain(self.request(Method::GET, self.engine(&[id])?)).await
    }

    /// Changes fields of a decision policy; null takes one back to its default.
    ///
    /// With `if_match`, only if the record still has that revision; otherwise the error is a conflict.
    pub async fn update_decision_policy(
        &self,
        id: &str,
        changes: &(impl Serialize + ?Sized),
        if_match: Option<u64>,
    ) -> Result<StoredDecisionPolicy, Error> {
        let request = self.request(Method::PATCH, self.engine(&[id])?).json(changes);
        let request =
            if_match.into_iter().fold(request, |request, revision| request.header(IF_MATCH, revision));
        self.plain(request).await
    }

    /// Removes a decision policy.
    pub async fn delete_decision_policy(&self, id: &str) -> Result<(), Error> {
        let response = self.send(self.request(Method::DELETE, self.engine(&[id])?)).await?;
        reply::refused(response, self.url()).await.map(drop)
    }

    /// Finds decision policies with a Mongo-style filter; `{}` finds all. `T` is [`DecisionPolicy`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_decision_policies<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        let mut url = self.engine(&["query"])?;
        page.write_to(&mut url);
        let found: Found<T> = self.plain(self.request(Method::POST, url).json(filter)).await?;
        Ok(Listing { records: found.policies, has_more: found.has_more })
    }

    /// Stores decision policies, all or none. With `replace`, they take the place of those with the same names; without,
    /// a name that is taken is a conflict.
    pub async fn import_decision_policies(
        &self,
        policies: &[impl Serialize],
        replace: bool,
    ) -> Result<ImportedDecisionPolicies, Error> {
        let mut url = self.engine(&["import"])?;
        if replace {
            url.set_query(Some("replace=true"));
        }
        self.plain(self.request(Method::POST, url).json(&json!({"policies": policies}))).await
    }

    /// State of the folder of decision policies that the server watches.
    pub async fn decision_folder(&self) -> Result<DecisionFolder, Error> {
        self.plain(self.request(Method::GET, self.engine(&["folder"])?)).await
    }

    pub(super) fn engine(&self, segments: &[&str]) -> Result<Url, Error> {
        self.path(&[&["api", "v1", "policy"], segments].concat())
    }

    /// Sends a request and reads a reply without an envelope.
    pub(super) async fn plain<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = reply::refused(self.send(request).await?, self.url()).await?;
        reply::read(response, self.url()).await
    }
}
