//! Jobs and functions as pods: what an executor runs in a cluster, and what became of it.
//!
//! Everything that is known stands in the cluster, as labels and annotations of the objects; this keeps a copy that follows
//! changes ([`watch`]), so that looking costs nothing and nothing is asked for again and again.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value without that field reads as null, and those that are written to are objects"
)]

mod function_manifest;
mod function_seen;
mod functions;
mod job_end;
mod jobs;
mod options;
mod pod_template;
mod pods;
mod problem;
mod rights;
mod secrets;
mod stamp;
mod watch;

pub use function_seen::{FunctionSeen, PodSeen};
pub use functions::{Autoscale, FunctionPods};
pub use jobs::{JobEnd, JobPod, JobSeen};
pub use options::{Cache, PodOptions};
pub use problem::{Problem, ProblemKind};
pub use rights::RIGHTS;

use crate::{Cluster, Fault, Mark};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::Instant;
use watch::{Mirror, Watching};

/// Annotations: what the objects are of, in the words of the policy system, which no label may hold.
pub(super) const JOB: &str = "edict.dev/job-id";
pub(super) const ATTEMPT: &str = "edict.dev/attempt";
pub(super) const REVISION: &str = "edict.dev/revision";
pub(super) const TTL: &str = "edict.dev/ttl-seconds";
pub(super) const FUNCTION: &str = "edict.dev/function-id";
pub(super) const EDITION: &str = "edict.dev/edition";

/// Between two looks for what has outlived its use.
const CHORES: Duration = Duration::from_secs(10);

/// The jobs and functions of one executor in one namespace. What follows the cluster ends when this is dropped.
pub struct Workloads {
    cluster: Arc<Cluster>,
    mark: Mark,
    namespace: String,
    options: PodOptions,
    changes: channel::Sender<u64>,
    jobs: Arc<Mirror<Job>>,
    pods: Arc<Mirror<Pod>>,
    deployments: Arc<Mirror<Deployment>>,
    services: Arc<Mirror<Service>>,
    scalers: Arc<Mirror<HorizontalPodAutoscaler>>,
    /// What secrets were last known to hold, as the digest of their manifest, and when.
    secrets: Mutex<HashMap<String, (String, Instant)>>,
    _watches: JoinSet<()>,
}

impl Workloads {
    /// Looks at everything of this executor in the namespace, and follows it from there.
    ///
    /// # Errors
    /// The cluster does not show it: the fault names the right that is missing.
    pub async fn start(
        cluster: Arc<Cluster>,
        mark: Mark,
        namespace: String,
        options: PodOptions,
    ) -> Result<Arc<Self>, Fault> {
        crate::names::check("namespace", &namespace, crate::names::is_label)?;
        let changes = channel::Sender::new(0);
        let mut watches = JoinSet::new();
        let watching = Watching {
            cluster: Arc::clone(&cluster),
            namespace: namespace.clone(),
            selector: mark.selector(None),
            changes: changes.clone(),
        };
        let workloads = Arc::new(Self {
            jobs: watching.start(&mut watches).await?,
            pods: watching.start(&mut watches).await?,
            deployments: watching.start(&mut watches).await?,
            services: watching.start(&mut watches).await?,
            scalers: watching.start(&mut watches).await?,
            secrets: Mutex::default(),
            _watches: watches,
            cluster,
            mark,
            namespace,
            options,
            changes,
        });
        let weak = Arc::downgrade(&workloads);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CHORES).await;
                let Some(workloads) = weak.upgrade() else { return };
                workloads.chores().await;
            }
        });
        Ok(workloads)
    }

    /// Counts what was seen to change.
    #[must_use]
    pub fn changes(&self) -> channel::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The beginning of a manifest.
    fn object(&self, (version, kind): (&str, &str), name: &str, annotations: Map<String, Value>) -> Value {
        json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations},
        })
    }

    /// A manifest as far as it takes to find or remove the object.
    fn reference(&self, kind: (&str, &str), name: &str) -> Value {
        self.object(kind, name, Map::new())
    }

    async fn chores(&self) {
        self.remove_old_jobs().await;
        if let Err(error) = self.keep_job_secret().await {
            tracing::debug!(%error, "the secret of jobs that wait cannot be looked after yet");
        }
    }
}

/// The kinds of what is made.
pub(super) const JOBS: (&str, &str) = ("batch/v1", "Job");
pub(super) const PODS: (&str, &str) = ("v1", "Pod");
pub(super) const SECRETS: (&str, &str) = ("v1", "Secret");
pub(super) const SERVICES: (&str, &str) = ("v1", "Service");
pub(super) const DEPLOYMENTS: (&str, &str) = ("apps/v1", "Deployment");
pub(super) const SCALERS: (&str, &str) = ("autoscaling/v1", "HorizontalPodAutoscaler");

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An annotation of an object.
fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}
