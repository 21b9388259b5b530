//! `/policy`: policies, their code and their context.

use super::{Client, Listing, Page, Stored};
use crate::Error;
use crate::records::{ContextOp, Policy};
use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a policy runs, as the server has pinned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCode {
    /// `source`, `zip`, `tar.xz` or `tar.gz`.
    pub format: String,
    /// SHA-256 of the content in hex.
    pub digest: String,
    /// The archive, or the text of `function.py`.
    pub content: Bytes,
}

impl Client {
    /// Registers a policy: a [`Policy`], or any JSON of that shape.
    ///
    /// With `verify`, code behind a URL that cannot be reached now is refused instead of fetched later.
    pub async fn create_policy(
        &self,
        policy: &(impl Serialize + ?Sized),
        verify: bool,
    ) -> Result<Stored<Policy>, Error> {
        let mut url = self.path(&["policy"])?;
        if verify {
            url.set_query(Some("verify=true"));
        }
        Ok(self.call(self.request(Method::POST, url).json(policy)).await?.stored())
    }

    /// Reads a policy.
    pub async fn get_policy(&self, uri: &str) -> Result<Policy, Error> {
        self.get(&["policy", uri]).await
    }

    /// Changes a policy: `change` is a full record, or an object of update operators such as `$set`.
    ///
    /// With `if_match`, only if the record still has that revision; otherwise the error is a conflict.
    pub async fn update_policy(
        &self,
        uri: &str,
        change: &(impl Serialize + ?Sized),
        if_match: Option<u64>,
    ) -> Result<Stored<Policy>, Error> {
        Ok(self.put(&["policy", uri], change, if_match).await?.stored())
    }

    /// Removes a policy.
    pub async fn delete_policy(&self, uri: &str) -> Result<(), Error> {
        self.delete(&["policy", uri]).await
    }

    /// Finds policies with a Mongo-style filter; `{}` finds all. `T` is [`Policy`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_policies<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        self.query(&["policy", "query"], filter, page).await
    }

    /// Downloads what a policy runs.
    pub async fn policy_code(&self, uri: &str) -> Result<PolicyCode, Error> {
        self.code(&["policy", uri, "code"]).await
    }

    /// Carries out one operation on a policy's context; the reply's shape is told at [`ContextOp`].
    pub async fn policy_context(&self, uri: &str, operation: &ContextOp) -> Result<Value, Error> {
        Ok(self.post(&["policy", uri, "context"], operation).await?.data)
    }
}
