//! The demo's jobs, functions and graph: the same policies where they stay.

use super::super::super::failure::Failure;
use super::super::super::output::Output;
use super::{Story, URI, at, expect};
use edict_client::records::{Function, FunctionState, FunctionStatus, JobStatus, ManageFunction};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longest wait for something that takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who calls at the same time while a function is under load.
const CALLERS: usize = 4;

const BUSY: &str = include_str!("../policies/busy.py");

impl Story {
    pub(in super::super) async fn job(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(
            out,
            "Submit it as a job (Type 3): on disk before the answer, a process of its own, retried",
        )?;
        let inputs = json!({"ip": "127.0.0.1"});
        let request = json!({"policy_rule_uri": URI, "inputs": inputs, "backoff_limit": 2});
        let submitted = Instant::now();
        let accepted = self.client.submit_job(None, &request).await?;
        let job = self.client.get_job(&accepted.job_id, Some(PATIENCE)).await?;
        let took = submitted.elapsed();
        expect(job.job_status == JobStatus::Completed, "the job completes", &job)?;
        let output = job.job_output_data.as_ref().map_or("null", |output| output.get());
        out.line(&format!("   job {} on {}: {}", job.job_id, job.executor_id, accepted.job_status.as_str()))?;
        out.line(&format!("   completed {:.1} ms after submitting -> {output}", milliseconds(took)))
    }

    pub(in super::super) async fn function(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Deploy it as a function (Type 4): two warm replicas behind one name")?;
        let started = Instant::now();
        let request = json!({"name": "check-ip", "policy_rule_uri": URI, "replicas": 2});
        self.client.deploy_function(None, &request).await?;
        let status = self.settled("check-ip").await?.function_status;
        out.line(&format!(
            "   check-ip: {} of {} replicas ready after {} ms",
            status.ready,
            status.desired,
            started.elapsed().as_millis()
        ))?;
        for ip in ["127.0.0.1", "10.7.7.7"] {
            let answer = self.client.call_function("check-ip", &json!({"ip": ip})).await?;
            out.line(&format!("   {{\"ip\": \"{ip}\"}} -> {answer}"))?;
        }
        let mut times = Vec::new();
        for _ in 0..1000 {
            let started = Instant::now();
            self.client.call_function("check-ip", &json!({"ip": "127.0.0.1"})).await?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        out.line(&format!("   1000 more calls over HTTP: median {:.2} ms", milliseconds(median)))?;

        let data = json!({"ips": ["10.7.7.7"]});
        let action = "update_local_allowlist".to_owned();
        let command = ManageFunction { action, data: data.as_object().cloned().unwrap_or_default() };
        out.line(&format!("   the management command update_local_allowlist {data} reaches every replica:"))?;
        let managed = self.client.manage_function("check-ip", &command).await?;
        expect(managed.replicas.len() == 2, "both replicas answer", &managed)?;
        for answer in &managed.replicas {
            expect(at(&answer.data, "/status") == "success", "each replica takes the command in", answer)?;
            out.line(&format!("     replica {} -> {}", answer.replica, answer.data))?;
        }
        let answer = self.client.call_function("check-ip", &json!({"ip": "10.7.7.7"})).await?;
        expect(*at(&answer, "/allowed") == true, "replicas know the new list", &answer)?;
        out.line(&format!("   {{\"ip\": \"10.7.7.7\"}} -> {answer}"))
    }

    pub(in super::super) async fn scale(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Let a function follow its load: 1 to 3 replicas, 50 % of a core each")?;
        self.deploy_source("busy", BUSY, json!({})).await?;
        let rule = json!({
            "min_replicas": 1, "max_replicas": 3, "target_cpu_utilization_percentage": 50,
            "scale_down_stabilization_seconds": 3,
        });
        self.client.update_function("busy", &json!({"$set": {"autoscaling": rule}}), None).await?;
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let client = self.client.clone();
            callers.spawn(async move { while client.call_function("busy", &json!({})).await.is_ok() {} });
        }
        let (grown, took) = self.until("busy", |status| status.ready >= 2).await?;
        out.line(&format!(
            "   {CALLERS} callers without a pause: {} after {:.1} s",
            busy(&grown),
            took.as_secs_f64()
        ))?;
        // A call that is given up in the middle harms nobody.
        callers.shutdown().await;
        let (shrunk, took) = self.until("busy", |status| status.ready == 1 && status.desired == 1).await?;
        out.line(&format!("   nobody calls any more: {} after {:.1} s", busy(&shrunk), took.as_secs_f64()))
    }

    /// Registers a policy and deploys it under the same name.
    async fn deploy_source(&self, name: &str, code: &str, parameters: Value) -> Result<(), Failure> {
        let record = json!({
            "name": name, "version": "1.0", "release_tag": "demo", "code": code, "policy_parameters": parameters,
        });
        let uri = self.client.create_policy(&record, true).await?.record.policy_rule_uri;
        self.client.deploy_function(None, &json!({"name": name, "policy_rule_uri": uri})).await?;
        self.settled(name).await.map(drop)
    }

    /// The function once its replicas are ready.
    async fn settled(&self, name: &str) -> Result<Function, Failure> {
        let function = self.client.get_function(name, Some(PATIENCE)).await?;
        let ready = function.function_status.state == FunctionState::Ready;
        expect(ready, "the replicas get ready", &function.function_status)?;
        Ok(function)
    }

    /// Waits until a function's status is as it should be; how long that took.
    async fn until(
        &self,
        name: &str,
        wanted: impl Fn(&FunctionStatus) -> bool,
    ) -> Result<(FunctionStatus, Duration), Failure> {
        let started = Instant::now();
        loop {
            let status = self.client.get_function(name, None).await?.function_status;
            if wanted(&status) {
                return Ok((status, started.elapsed()));
            }
            expect(started.elapsed() < PATIENCE, "the function scales", &status)?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn busy(status: &FunctionStatus) -> String {
    let cpu =
        status.cpu_utilization_percentage.map(|percent| format!(" at {percent} % CPU")).unwrap_or_default();
    format!("{} ready of {} wanted{cpu}", status.ready, status.desired)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
