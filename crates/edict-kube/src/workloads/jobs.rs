//! Attempts of jobs as Kubernetes Jobs: each has one pod, which runs once.

use super::pod_template::PodTemplate;
use super::problem::Problem;
use super::secrets::data;
use super::stamp::stamped;
use super::{ATTEMPT, JOB, JOBS, REVISION, SECRETS, TTL, Workloads, annotation};
use crate::ours::object_name;
use crate::{Fault, names};
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What the pod of a job gets to end by itself when it is told to, in seconds.
const GRACE: u64 = 30;
/// How long after that a pod is waited for: its node may be away, and nothing will ever be heard of it.
const GONE: Duration = Duration::from_secs(GRACE + 15);
/// How long what was just made may take to be seen.
const SEEN: Duration = Duration::from_secs(5);
/// The component that jobs are, in labels.
const COMPONENT: &str = "job";
/// How a Job's name begins. With what follows it, it fits into a label, as which Kubernetes uses it.
const PREFIX: &str = "job-";

/// An attempt of a job, to be run.
#[derive(Debug, Clone)]
pub struct JobPod {
    /// The job.
    pub job_id: String,
    /// Which of its attempts.
    pub attempt: u32,
    /// The job's revision that the attempt holds.
    pub revision: u64,
    /// What the image's program is called with.
    pub args: Vec<String>,
    /// Variables, beside those of all pods.
    pub env: BTreeMap<String, String>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// What the policy may take, in MiB.
    pub memory_mb: u64,
    /// How long it may take, waiting included.
    pub deadline: Duration,
    /// How long it stays when it has ended.
    pub ttl: Duration,
}

/// An attempt that is seen in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSeen {
    /// The job.
    pub job_id: String,
    /// Which of its attempts.
    pub attempt: u32,
    /// The job's revision that it was started with.
    pub revision: u64,
    /// Whether it has ended.
    pub ended: bool,
}

/// How an attempt has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Its program has ended with exit code 0.
    Succeeded,
    /// It has not.
    Failed {
        /// The program's exit code, if it ran.
        exit_code: Option<i32>,
        /// Why.
        problem: Problem,
    },
    /// There is no such Job, or not any more.
    Gone,
}

/// The name of an attempt's Job.
pub(super) fn job_name(job_id: &str, attempt: u32) -> String {
    format!("{PREFIX}{}", object_name(&format!("{attempt}-{job_id}")))
}

/// The condition that says that a Job has ended.
pub(super) fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|it| matches!(it.type_.as_str(), "Complete" | "Failed") && it.status == "True")
}

impl Workloads {
    /// Makes the Job of an attempt, unless it is there.
    ///
    /// # Errors
    /// The cluster does not take it; then there is none. After a fault that may pass, there may be one.
    pub async fn start_job(&self, job: &JobPod) -> Result<(), Fault> {
        let name = job_name(&job.job_id, job.attempt);
        let there = self.jobs.get(&name).filter(|job| job.metadata.deletion_timestamp.is_none());
        if there.as_ref().is_some_and(|job| finished(job).is_some()) {
            return Ok(());
        }
        self.put_secret(COMPONENT, self.job_secret()).await?;
        if there.is_none() {
            self.cluster.make(&self.mark, COMPONENT, self.job_manifest(&name, job)).await?;
            self.until(SEEN, || self.jobs.get(&name).is_some()).await;
        }
        Ok(())
    }

    /// Restores the secret that pods of jobs need to start, if somebody has removed it.
    pub(super) async fn keep_job_secret(&self) -> Result<(), Fault> {
        if self.jobs.all().iter().all(|job| finished(job).is_some()) {
            return Ok(());
        }
        self.doubt_secret(&self.job_secret_name());
        self.put_secret(COMPONENT, self.job_secret()).await
    }

    fn job_secret_name(&self) -> String {
        format!("jobs-{}", self.mark.key())
    }

    fn job_secret(&self) -> Value {
        let mut secret = self.reference(SECRETS, &self.job_secret_name());
        secret["data"] = data(&self.options.job_secret);
        stamped(secret)
    }

    fn job_manifest(&self, name: &str, job: &JobPod) -> Value {
        let template = PodTemplate {
            args: &job.args,
            env: &job.env,
            secret: &self.job_secret_name(),
            node_selector: &job.node_selector,
            memory_mb: job.memory_mb,
            grace_seconds: GRACE,
            restart: "Never",
            container: Map::new(),
        };
        let mut labels = self.mark.labels(COMPONENT);
        if names::is_label(&job.job_id) {
            labels.insert("edict.dev/job".to_owned(), json!(job.job_id));
        }
        let mut manifest = self.object(JOBS, name, annotations(job));
        manifest["metadata"]["labels"] = json!(labels);
        manifest["spec"] = json!({
            "backoffLimit": 0,
            "activeDeadlineSeconds": job.deadline.as_secs().max(1),
            "ttlSecondsAfterFinished": job.ttl.as_secs(),
            // Newer Kubernetes: a pod that was deleted is not run again. Older ones do not know it, see `job_end`.
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": labels, "annotations": annotations(job)},
                "spec": template.spec(&self.options),
            },
        });
        manifest
    }

    /// All attempts that are seen.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobSeen> {
        self.jobs.all().iter().filter_map(|job| seen(job)).collect()
    }

    /// Removes an attempt, and waits until its pod is gone, for as long as that may take to leave by itself.
    ///
    /// # Errors
    /// The cluster does not do it.
    pub async fn remove_job(&self, job_id: &str, attempt: u32) -> Result<(), Fault> {
        self.remove_job_named(&job_name(job_id, attempt)).await
    }

    pub(super) async fn remove_job_named(&self, name: &str) -> Result<(), Fault> {
        self.cluster.take_away(&self.mark, &self.reference(JOBS, name)).await?;
        // They go with the Job, but not at once, and one that has just been made could begin to run.
        for pod in self.pods_of_job(name) {
            if let (Some(name), Some(uid), None) =
                (&pod.metadata.name, &pod.metadata.uid, &pod.metadata.deletion_timestamp)
            {
                self.delete_pod(name, uid).await?;
            }
        }
        if !self.until(GONE, || self.jobs.get(name).is_none() && self.pods_of_job(name).is_empty()).await {
            tracing::warn!(
                job = name,
                "the pod of a job that was removed does not leave: its node may be away"
            );
        }
        Ok(())
    }

    /// What an attempt's pod has printed, or the end of it; None when there is no pod, or it has not run.
    ///
    /// # Errors
    /// The cluster does not tell: its node may be away.
    pub async fn job_output(&self, job_id: &str, attempt: u32) -> Result<Option<String>, Fault> {
        let pods = self.pods_of_job(&job_name(job_id, attempt));
        let Some(name) = pods.first().and_then(|pod| pod.metadata.name.as_deref()) else { return Ok(None) };
        self.log(name).await
    }

    /// What keeps an attempt from running, if it does not yet.
    pub async fn job_waits(&self, job_id: &str, attempt: u32) -> Option<Problem> {
        let name = job_name(job_id, attempt);
        let job = self.jobs.get(&name).filter(|job| finished(job).is_none())?;
        let pods = self.pods_of_job(&name);
        if pods.is_empty() {
            return self.uncreated(&job).await;
        }
        pods.iter().find_map(|pod| Problem::waiting(pod))
    }

    /// Why a Job has no pod, as its controller told.
    pub(super) async fn uncreated(&self, job: &Job) -> Option<Problem> {
        let uid = job.metadata.uid.as_deref()?;
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid},reason=FailedCreate"));
        let told = self.cluster.list::<Event, Event>(&self.namespace, &params).await;
        let (events, _) = told.inspect_err(|error| tracing::debug!(%error, "no events can be read")).ok()?;
        let last = events.into_iter().max_by_key(|event| event.last_timestamp.as_ref().map(|at| at.0))?;
        Some(Problem::uncreated(&last.message.unwrap_or_default()))
    }

    /// The pods of a Job, the oldest first.
    pub(super) fn pods_of_job(&self, name: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.beginning(&format!("{name}-"));
        pods.retain(|pod| {
            let labels = pod.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get("job-name")).is_some_and(|of| of == name)
        });
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
        pods
    }

    /// Waits until it holds; says whether it does.
    pub(super) async fn until(&self, patience: Duration, holds: impl Fn() -> bool) -> bool {
        let end = Instant::now() + patience;
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if holds() {
                return true;
            }
            if tokio::time::timeout_at(end, changes.changed()).await.is_err() {
                return holds();
            }
        }
    }

    /// Removes Jobs that ended long enough ago. Kubernetes does it by itself where that is switched on.
    pub(super) async fn remove_old_jobs(&self) {
        for job in self.jobs.all().iter().filter(|job| is_old(job)) {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            if let Err(error) = self.cluster.take_away(&self.mark, &self.reference(JOBS, name)).await {
                tracing::debug!(job = name, %error, "the job of an attempt cannot be removed yet");
            }
        }
    }
}

fn annotations(job: &JobPod) -> Map<String, Value> {
    let pairs = [
        (JOB, job.job_id.clone()),
        (ATTEMPT, job.attempt.to_string()),
        (REVISION, job.revision.to_string()),
        (TTL, job.ttl.as_secs().to_string()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

fn seen(job: &Job) -> Option<JobSeen> {
    Some(JobSeen {
        job_id: annotation(&job.metadata, JOB)?.to_owned(),
        attempt: annotation(&job.metadata, ATTEMPT)?.parse().ok()?,
        revision: annotation(&job.metadata, REVISION)?.parse().ok()?,
        ended: finished(job).is_some(),
    })
}

fn is_old(job: &Job) -> bool {
    let old = || {
        let ttl: i64 = annotation(&job.metadata, TTL)?.parse().ok()?;
        let ended = finished(job)?.last_transition_time.as_ref()?.0.as_second();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        Some(i64::try_from(now).ok()? >= ended.saturating_add(ttl))
    };
    old().unwrap_or(false)
}
