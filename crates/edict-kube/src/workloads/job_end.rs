//! How the attempt of a job ends, seen from outside.
//!
//! A Job whose pod is deleted gets another one from its controller (before Kubernetes 1.28 always). That would run the same
//! attempt a second time, so that whoever waits for it removes the Job instead, and the end is told when all of its pods are gone.
//! The program in the second one may have been started in between: it has to find out that the attempt was begun.

use super::jobs::{JobEnd, finished, job_name};
use super::problem::{Problem, ProblemKind};
use super::{JOBS, Workloads};
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often a Job is looked at although nothing is known to have changed.
const LOOK: Duration = Duration::from_secs(10);
/// Between two tries of what the cluster did not do.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the controller may take to say what the end of a pod means for its Job.
const VERDICT: Duration = Duration::from_secs(5);

/// What one who waits for the end of an attempt remembers.
#[derive(Default)]
struct Vigil {
    /// The pod that runs it, by its uid.
    pod: Option<String>,
    /// Since when that one is gone.
    gone: Option<Instant>,
    /// What holds it up that will not pass by itself, and since when.
    stuck: Option<(Instant, Problem)>,
    /// What it waits, or waited, for.
    waits: Option<Problem>,
}

impl Workloads {
    /// Waits until an attempt has ended. One that cannot begin, or whose pod somebody else has taken away, is ended by this.
    pub async fn job_ended(&self, job_id: &str, attempt: u32) -> JobEnd {
        let name = job_name(job_id, attempt);
        let mut vigil = Vigil::default();
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            let Some(job) = self.jobs.get(&name) else {
                if self.is_gone(&name).await {
                    return JobEnd::Gone;
                }
                timeout(AGAIN, changes.changed()).await.ok();
                continue;
            };
            let pods = self.pods_of_job(&name);
            if let Some(condition) = finished(&job) {
                return self.end(&job, condition, &vigil).await;
            }
            if let Some(problem) = vigil.look(&pods, Instant::now(), self.options.patience) {
                self.end_early(&name).await;
                return JobEnd::Failed { exit_code: None, problem };
            }
            timeout(vigil.pause(self.options.patience), changes.changed()).await.ok();
        }
    }

    /// What is seen may be older than what was just made.
    async fn is_gone(&self, name: &str) -> bool {
        loop {
            match self.cluster.find(&self.reference(JOBS, name)).await {
                Ok(found) => return !found.is_some_and(|job| self.mark.is_on(&job)),
                Err(error) => tracing::debug!(job = name, %error, "a job cannot be looked for"),
            }
            sleep(AGAIN).await;
        }
    }

    async fn end(&self, job: &Job, condition: &JobCondition, vigil: &Vigil) -> JobEnd {
        if condition.type_ == "Complete" {
            return JobEnd::Succeeded;
        }
        let said = condition.message.as_deref().unwrap_or_default();
        if condition.reason.as_deref() == Some("DeadlineExceeded") {
            let waits = match (&vigil.waits, &vigil.pod) {
                (None, None) => self.uncreated(job).await,
                (waits, _) => waits.clone(),
            };
            let waits = waits.map(|waits| format!("; it waited: {}", waits.message)).unwrap_or_default();
            let problem = Problem::new(ProblemKind::Deadline, format!("{said}{waits}"));
            return JobEnd::Failed { exit_code: None, problem };
        }
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let (exit_code, problem) = match self.failed_pod(name).await {
            Some(pod) => Problem::of_end(&pod),
            None => (None, Problem::new(ProblemKind::Evicted, "its pod is gone")),
        };
        JobEnd::Failed { exit_code, problem }
    }

    /// The pod that made a Job fail. The Job may be seen to have failed before its pod is.
    async fn failed_pod(&self, name: &str) -> Option<Pod> {
        let params = ListParams::default().labels(&format!("job-name={name}"));
        let pods = match self.cluster.list::<Pod, Pod>(&self.namespace, &params).await {
            Ok((pods, _)) => pods,
            Err(error) => {
                tracing::debug!(job = name, %error, "the pods of a job cannot be listed");
                self.pods_of_job(name).into_iter().map(Arc::unwrap_or_clone).collect()
            }
        };
        pods.into_iter().max_by_key(|pod| phase(pod) == Some("Failed"))
    }

    async fn end_early(&self, name: &str) {
        while let Err(error) = self.remove_job_named(name).await {
            tracing::warn!(job = name, %error, "a job that cannot go on cannot be removed yet");
            sleep(AGAIN).await;
        }
    }
}

impl Vigil {
    /// Looks at the pods of a Job that has not ended, the oldest first; says why it must be ended, if it must.
    fn look(&mut self, pods: &[Arc<Pod>], now: Instant, patience: Duration) -> Option<Problem> {
        if self.pod.is_none() {
            self.pod = pods.first().and_then(|pod| pod.metadata.uid.clone());
        }
        let (own, others): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod.metadata.uid == self.pod);
        let Some(own) = own.first() else {
            // One that has not been made yet is waited for.
            self.pod.as_ref()?;
            let gone = *self.gone.get_or_insert(now);
            let over = !others.is_empty() || now.duration_since(gone) >= VERDICT;
            return over.then(|| Problem::new(ProblemKind::Evicted, "its pod was deleted"));
        };
        self.gone = None;
        if !others.is_empty() && phase(own) != Some("Succeeded") {
            return Some(Problem::new(ProblemKind::Evicted, "its pod was deleted, and another one was made"));
        }
        self.waits = Problem::waiting(own);
        let stuck = self.waits.as_ref();
        let stuck = stuck.filter(|it| matches!(it.kind, ProblemKind::Image | ProblemKind::Config));
        self.stuck = match (stuck, self.stuck.take()) {
            (None, _) => None,
            (Some(new), None) => Some((now, new.clone())),
            // That a node waits before it pulls again says less than why it has to.
            (Some(new), Some((since, old))) if new.message.contains("ImagePullBackOff") => {
                Some((since, if old.kind == new.kind { old } else { new.clone() }))
            }
            (Some(new), Some((since, _))) => Some((since, new.clone())),
        };
        let (since, problem) = self.stuck.as_ref()?;
        (now.duration_since(*since) >= patience).then(|| problem.clone())
    }

    /// When to look again if nothing changes.
    fn pause(&self, patience: Duration) -> Duration {
        let now = Instant::now();
        let left = |since: Instant, of: Duration| (since + of).saturating_duration_since(now);
        let gone = self.gone.map(|since| left(since, VERDICT));
        let stuck = self.stuck.as_ref().map(|(since, _)| left(*since, patience));
        gone.into_iter().chain(stuck).fold(LOOK, Duration::min)
    }
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn pod(uid: &str, phase: &str, waiting: Option<(&str, &str)>) -> Arc<Pod> {
        let state =
            waiting.map(|(reason, message)| json!({"waiting": {"reason": reason, "message": message}}));
        let container = json!({"name": "edict", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let statuses = waiting.map_or(Value::Null, |_| json!([container]));
        let pod =
            json!({"metadata": {"uid": uid}, "status": {"phase": phase, "containerStatuses": statuses}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_pod_that_is_replaced_ends_the_job_at_once() {
        let (mut vigil, now) = (Vigil::default(), Instant::now());
        assert_eq!(vigil.look(&[], now, PATIENCE), None);
        let first = pod("1", "Running", None);
        assert_eq!(vigil.look(&[Arc::clone(&first)], now, PATIENCE), None);
        let ended = vigil.look(&[first, pod("2", "Pending", None)], now, PATIENCE).unwrap();
        assert_eq!(ended.kind, ProblemKind::Evicted);
        let ended = vigil.look(&[pod("2", "Pending", None)], now, PATIENCE).unwrap();
        assert_eq!(ended.kind, ProblemKind::Evicted);
    }

    #[test]
    fn a_pod_that_is_gone_is_given_time_for_the_verdict() {
        let (mut vigil, now) = (Vigil::default(), Instant::now());
        vigil.look(&[pod("1", "Running", None)], now, PATIENCE);
        assert_eq!(vigil.look(&[], now, PATIENCE), None);
        assert!(vigil.pause(PATIENCE) <= VERDICT);
        assert!(vigil.look(&[], now + VERDICT, PATIENCE).is_some());
    }

    #[test]
    fn an_image_has_its_patience_and_keeps_the_words_that_tell_most() {
        let (mut vigil, now) = (Vigil::default(), Instant::now());
        let why = pod("1", "Pending", Some(("ErrImagePull", "no such image")));
        let back_off = pod("1", "Pending", Some(("ImagePullBackOff", "Back-off pulling image")));
        assert_eq!(vigil.look(&[why], now, PATIENCE), None);
        assert_eq!(vigil.look(&[Arc::clone(&back_off)], now + PATIENCE / 2, PATIENCE), None);
        let ended = vigil.look(&[back_off], now + PATIENCE, PATIENCE).unwrap();
        assert_eq!(ended.kind, ProblemKind::Image);
        assert!(
            ended.message.contains("no such image") && ended.message.contains("`x`"),
            "{}",
            ended.message
        );
    }

    #[test]
    fn what_passes_is_forgotten() {
        let (mut vigil, now) = (Vigil::default(), Instant::now());
        vigil.look(&[pod("1", "Pending", Some(("ErrImagePull", "away")))], now, PATIENCE);
        vigil.look(&[pod("1", "Running", None)], now + PATIENCE / 2, PATIENCE);
        let again = pod("1", "Pending", Some(("ErrImagePull", "away")));
        assert_eq!(vigil.look(&[again], now + PATIENCE, PATIENCE), None);
    }
}
