//! Those who wait for a job to end.

use dashmap::DashMap;
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::sync::watch;

type Final = Option<Arc<RawValue>>;

/// Who waits for which job in this process.
#[derive(Default)]
pub(super) struct Waiters(DashMap<String, watch::Sender<Final>>);

/// One that waits. Dropped, it no longer does.
pub(crate) struct Waiting<'a> {
    waiters: &'a Waiters,
    job_id: String,
    receiver: watch::Receiver<Final>,
}

impl Waiters {
    /// Starts to wait: whoever then finds the job unfinished in the database misses nothing.
    pub(super) fn wait(&self, job_id: &str) -> Waiting<'_> {
        let entry = self.0.entry(job_id.to_owned());
        let receiver = entry.or_insert_with(|| watch::Sender::new(None)).subscribe();
        Waiting { waiters: self, job_id: job_id.to_owned(), receiver }
    }

    /// Whether anybody waits for this job.
    pub(super) fn any(&self, job_id: &str) -> bool {
        self.0.contains_key(job_id)
    }

    /// Gives the final record to all who wait for it.
    pub(super) fn tell(&self, job_id: &str, record: &Arc<RawValue>) {
        if let Some((_, sender)) = self.0.remove(job_id) {
            sender.send_replace(Some(Arc::clone(record)));
        }
    }
}

impl Waiting<'_> {
    /// The final record, once there is one.
    pub(crate) async fn record(&mut self) -> Arc<RawValue> {
        let told = self.receiver.wait_for(Option::is_some).await.ok().and_then(|record| record.clone());
        match told {
            Some(record) => record,
            // Its sender went before it sent: there is nothing to hear any more.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // The entry may be someone else's by now, who came after this one was told.
        let own = |sender: &watch::Sender<Final>| sender.subscribe().same_channel(&self.receiver);
        self.waiters.0.remove_if(&self.job_id, |_, sender| sender.receiver_count() <= 1 && own(sender));
    }
}
