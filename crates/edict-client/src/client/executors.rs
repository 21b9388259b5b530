//! `/executor`: the records of policy executors, and what executors themselves report.

use super::{Client, Listing, Page, Stored};
use crate::Error;
use crate::records::{Executor, Heartbeat, PolicyState};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

impl Client {
    /// Registers an executor: an [`Executor`], or any JSON of that shape.
    pub async fn create_executor(
        &self,
        executor: &(impl Serialize + ?Sized),
    ) -> Result<Stored<Executor>, Error> {
        Ok(self.post(&["executor"], executor).await?.stored())
    }

    /// Reads an executor.
    pub async fn get_executor(&self, id: &str) -> Result<Executor, Error> {
        self.get(&["executor", id]).await
    }

    /// Changes an executor: `change` is a full record, or an object of update operators such as `$set`.
    ///
    /// With `if_match`, only if the record still has that revision; otherwise the error is a conflict.
    pub async fn update_executor(
        &self,
        id: &str,
        change: &(impl Serialize + ?Sized),
        if_match: Option<u64>,
    ) -> Result<Stored<Executor>, Error> {
        Ok(self.put(&["executor", id], change, if_match).await?.stored())
    }

    /// Removes an executor's record; the executor itself goes on running.
    pub async fn delete_executor(&self, id: &str) -> Result<(), Error> {
        self.delete(&["executor", id]).await
    }

    /// Finds executors with a Mongo-style filter; `{}` finds all. `T` is [`Executor`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_executors<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        self.query(&["executor", "query"], filter, page).await
    }

    /// Tells the policy system that an executor is there; the first time registers it.
    pub async fn heartbeat(&self, id: &str, heartbeat: &Heartbeat) -> Result<(), Error> {
        self.put::<IgnoredAny>(&["executor", id, "heartbeat"], heartbeat, None).await.map(drop)
    }

    /// What management commands have changed of a policy on this executor.
    pub async fn policy_state(&self, id: &str, uri: &str) -> Result<PolicyState, Error> {
        self.get(&["executor", id, "policy_state", uri]).await
    }

    /// Keeps what management commands have changed of a policy on this executor.
    pub async fn change_policy_state(&self, id: &str, uri: &str, state: &PolicyState) -> Result<(), Error> {
        self.patch::<IgnoredAny>(&["executor", id, "policy_state", uri], state).await.map(drop)
    }
}
