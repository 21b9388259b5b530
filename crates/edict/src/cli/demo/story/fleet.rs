//! The demo's executor in a cluster: put there with nothing but a kubeconfig, and taken out again.

use super::super::super::failure::Failure;
use super::super::super::output::Output;
use super::{Story, URI, expect};
use edict_client::records::{ClusterConfig, CreateInfra, InfraOptions, JobStatus, RemoveInfra, Seconds};
use serde_json::json;
use std::time::{Duration, Instant};

/// Longest wait for pods.
const PATIENCE: Duration = Duration::from_secs(180);

/// What to do where the image is missing.
const HINT: &str = "`cargo xtask image` makes the image: load it into the cluster, or push it and name it with `--edict-image`";

/// Jobs that are submitted at once.
const JOBS: usize = 10;

impl Story {
    /// Puts an executor into the cluster; the story goes on there.
    pub(in super::super) async fn join(
        &mut self,
        config: &ClusterConfig,
        image: &str,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        self.heading(out, "An executor in the cluster: a kubeconfig is all that it takes")?;
        let id = format!("demo-{}", uuid::Uuid::new_v4().simple());
        self.executor = Some(id.clone());
        let options = InfraOptions { image: Some(image.to_owned()), ..InfraOptions::default() };
        let wait = Some(Seconds::from(PATIENCE));
        let request = CreateInfra { cluster_config: config.clone(), wait, options };
        let started = Instant::now();
        let made = self.client.create_infra(&id, &request).await;
        let infra = made.map_err(|error| Failure::from(error).note("hint", HINT))?.record;
        out.line(&format!("   {id} is healthy after {:.1} s", started.elapsed().as_secs_f64()))?;
        out.line(&format!(
            "   in namespace {}, reached at {}",
            infra.namespace,
            infra.executor_host_uri.unwrap_or_default()
        ))
    }

    /// Runs jobs there.
    pub(in super::super) async fn jobs_in_pods(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, &format!("{JOBS} jobs (Type 3), each a Kubernetes Job"))?;
        let request = json!({"policy_rule_uri": URI, "inputs": {"ip": "127.0.0.1"}});
        let started = Instant::now();
        let mut ids = Vec::new();
        for _ in 0..JOBS {
            ids.push(self.client.submit_job(self.executor.as_deref(), &request).await?.job_id);
        }
        let mut nodes = std::collections::BTreeSet::new();
        for id in ids {
            let mut job = self.client.get_job(&id, Some(PATIENCE)).await?;
            while job.finished_at.is_none() && started.elapsed() < PATIENCE {
                job = self.client.get_job(&id, Some(PATIENCE)).await?;
            }
            expect(job.job_status == JobStatus::Completed, "each job completes", &job)?;
            nodes.extend(job.node_id);
        }
        out.line(&format!("   all completed after {:.1} s", started.elapsed().as_secs_f64()))?;
        out.line(&format!("   on {}", nodes.into_iter().collect::<Vec<_>>().join(", ")))
    }

    /// Takes the executor out of the cluster, with everything that it made there.
    pub(in super::super) async fn leave(
        &mut self,
        config: &ClusterConfig,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let Some(id) = self.executor.take() else { return Ok(()) };
        self.heading(out, "And out again: objects, namespace and rights")?;
        for name in self.deployed.drain(..) {
            self.client.remove_function(&name).await?;
        }
        let wait = Some(Seconds::from(PATIENCE));
        let request = RemoveInfra { cluster_config: Some(config.clone()), wait, ..RemoveInfra::default() };
        let started = Instant::now();
        let removed = self.client.remove_infra(&id, &request).await?;
        expect(removed.warnings.is_empty(), "everything goes", &removed.warnings)?;
        out.line(&format!("   nothing is left after {:.1} s", started.elapsed().as_secs_f64()))
    }
}
