//! The demo's jobs, functions and graph: the same policies where they stay.

use super::super::super::failure::Failure;
use super::super::super::graph::drawing;
use super::super::super::output::Output;
use super::{Story, URI, at, expect};
use edict_client::records::{
    ExecuteGraph, Function, FunctionState, FunctionStatus, GraphRun, JobStatus, ManageFunction,
};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longest wait for something that takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who calls at the same time while a function is under load.
const CALLERS: usize = 4;

const BUSY: &str = include_str!("../policies/busy.py");

/// What the graph has beside `check-ip`, with its parameters.
const NODES: [(&str, &str, &str); 3] = [
    ("threat", include_str!("../policies/threat.py"), r#"{"known": ["203.0.113.9"]}"#),
    ("activity", include_str!("../policies/activity.py"), "{}"),
    ("decide", include_str!("../policies/decide.py"), "{}"),
];

impl Story {
    pub(in super::super) async fn job(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(
            out,
            "Submit it as a job (Type 3): on disk before the answer, a process of its own, retried",
        )?;
        let inputs = json!({"ip": "10.9.9.9"});
        let request = json!({"policy_rule_uri": URI, "inputs": inputs, "backoff_limit": 2});
        let submitted = Instant::now();
        let accepted = self.client.submit_job(None, &request).await?;
        let job = self.client.get_job(&accepted.job_id, Some(PATIENCE)).await?;
        let took = submitted.elapsed();
        expect(job.job_status == JobStatus::Completed, "the job completes", &job)?;
        let output = job.job_output_data.as_ref().map_or("null", |output| output.get());
        let output: Value = serde_json::from_str(output).unwrap_or_default();
        expect(*at(&output, "/allowed") == true, "the job's policy knows the new list", &output)?;
        out.line(&format!("   job {} accepted for executor {}", job.job_id, job.executor_id))?;
        out.line(&format!("   {inputs} -> {output}, {:.1} ms after submitting", milliseconds(took)))?;
        let mut times = Vec::new();
        for _ in 0..50 {
            let submitted = Instant::now();
            let accepted = self.client.submit_job(Some("local"), &request).await?;
            self.client.get_job(&accepted.job_id, Some(PATIENCE)).await?;
            times.push(submitted.elapsed());
        }
        let median = milliseconds(median(times));
        out.line(&format!(
            "   50 more, one after the other: median {median:.1} ms from submitting to the final state"
        ))
    }

    pub(in super::super) async fn function(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Deploy it as a function (Type 4): two warm replicas behind one name")?;
        let started = Instant::now();
        let request = json!({"name": "check-ip", "policy_rule_uri": URI, "replicas": 2});
        self.client.deploy_function(self.executor.as_deref(), &request).await?;
        self.deployed.push("check-ip".to_owned());
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
        let median = milliseconds(median(times));
        out.line(&format!("   1000 more calls over HTTP: median {median:.2} ms"))?;

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
        self.heading(out, "Let a function follow its load: 1 to 3 replicas, 20 % of a core each")?;
        self.deploy_source("busy", BUSY, json!({})).await?;
        let rule = json!({
            "min_replicas": 1, "max_replicas": 3, "target_cpu_utilization_percentage": 20,
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

    pub(in super::super) async fn graph(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(
            out,
            "Connect functions to a graph (Type 5): what is independent runs at the same time",
        )?;
        for (name, code, parameters) in NODES {
            let parameters = serde_json::from_str(parameters).unwrap_or_default();
            self.deploy_source(name, code, parameters).await?;
        }
        let record = json!({
            "graph_name": "ip_risk_analysis", "graph_version": "1.0", "graph_release_tag": "stable",
            "graph_function_ids": ["check-ip", "threat", "activity", "decide"],
            "graph_connection_data":
                {"check-ip": ["threat", "activity"], "threat": ["decide"], "activity": ["decide"]},
            "graph_input_schema": {"ip": {"type": "string", "required": true}},
            "graph_output_schema": {"decision": {"type": "string", "choices": ["allow", "block", "review"]}},
        });
        let graph = self.client.create_graph(&record).await?.record;
        let run = self.run_graph(&graph.graph_uri, "10.7.7.7", "allow", out).await?;
        for line in drawing(&graph, &run).unwrap_or_default().lines() {
            out.line(&format!("   {line}"))?;
        }
        let alone: f64 = run.nodes.iter().filter_map(|node| node.duration_ms).sum();
        expect(run.duration_ms < alone, "threat and activity run at the same time", &run.nodes)?;
        out.line(&format!(
            "   {:.0} ms for nodes that take {alone:.0} ms one after the other",
            run.duration_ms
        ))?;
        self.run_graph(&graph.graph_uri, "203.0.113.9", "block", out).await.map(drop)
    }

    /// Runs the graph and shows its output, which has to be this decision.
    async fn run_graph(
        &self,
        uri: &str,
        ip: &str,
        decision: &str,
        out: &mut Output<'_>,
    ) -> Result<GraphRun, Failure> {
        let input = json!({"ip": ip});
        let input_data = to_raw_value(&input).map_err(|error| Failure::failed(error.to_string()))?;
        let request =
            ExecuteGraph { graph_uri: uri.to_owned(), input_data, timeout: None, node_timeout: None };
        let done = self.client.execute_graph(&request, true).await?;
        let output: Value = serde_json::from_str(done.data.get()).unwrap_or_default();
        expect(at(&output, "/decision") == decision, "the graph decides", &output)?;
        out.line(&format!("   {{\"ip\": \"{ip}\"}} -> {output}"))?;
        done.trace.ok_or_else(|| Failure::failed("the run has no trace"))
    }

    /// Registers a policy and deploys it under the same name.
    async fn deploy_source(&self, name: &str, code: &str, parameters: Value) -> Result<(), Failure> {
        let record = json!({
            "name": name, "version": "1.0", "release_tag": "demo", "code": code, "policy_parameters": parameters,
        });
        let uri = self.client.create_policy(&record, true).await?.record.policy_rule_uri;
        self.client.deploy_function(Some("local"), &json!({"name": name, "policy_rule_uri": uri})).await?;
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
