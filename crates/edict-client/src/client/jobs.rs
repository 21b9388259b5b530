//! `/jobs`: runs that are queued, survive restarts and end in exactly one final state.

use super::{Client, Listing, Page};
use crate::Error;
use crate::records::{Job, JobLogRecord};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

impl Client {
    /// Has a policy run once, as soon as there is a place for it: a [`SubmitJob`](crate::records::SubmitJob), or any
    /// JSON of that shape. Without an executor the server's allocator chooses one. The job is durable when this returns.
    pub async fn submit_job(
        &self,
        executor: Option<&str>,
        job: &(impl Serialize + ?Sized),
    ) -> Result<Job, Error> {
        let mut segments = vec!["jobs", "submit"];
        segments.extend(executor);
        Ok(self.post(&segments, job).await?.data)
    }

    /// Reads a job; with `wait`, as soon as it has its final state, or as it is when that time is over.
    pub async fn get_job(&self, id: &str, wait: Option<Duration>) -> Result<Job, Error> {
        self.get_waiting(&["jobs", id], wait).await
    }

    /// What the job's attempts printed and logged, oldest first, but for the first `skip` records; while it runs, what
    /// there is so far.
    pub async fn job_logs(&self, id: &str, skip: usize) -> Result<Vec<JobLogRecord>, Error> {
        let mut url = self.path(&["jobs", id, "logs"])?;
        if skip > 0 {
            url.query_pairs_mut().append_pair("skip", &skip.to_string());
        }
        Ok(self.call(self.request(Method::GET, url)).await?.data)
    }

    /// Ends a job that waits or runs; the error is a conflict when it has its final state already.
    pub async fn cancel_job(&self, id: &str) -> Result<Job, Error> {
        let request = self.request(Method::DELETE, self.path(&["jobs", id])?);
        Ok(self.call(request).await?.data)
    }

    /// Finds jobs with a Mongo-style filter; `{}` finds all. `T` is [`Job`], or
    /// [`Object`](crate::records::Object) for records with only some fields.
    pub async fn query_jobs<T: DeserializeOwned>(
        &self,
        filter: &(impl Serialize + ?Sized),
        page: &Page,
    ) -> Result<Listing<T>, Error> {
        self.query(&["jobs", "query"], filter, page).await
    }
}
