#![allow(missing_docs, clippy::all, clippy::todo, unused_variables, dead_code)]
use crate::{Cluster, Fault, Mark};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};
#[derive(Default, Clone)] pub enum Cache { #[default] PerPod, Node(String), Claim(String) }
#[derive(Default)] pub struct PodOptions { pub image: String, pub image_pull_secret: Option<String>, pub env: BTreeMap<String,String>, pub secret_env: BTreeMap<String,(String,String)>, pub cache: Cache, pub cpu_request: String }
pub struct Workloads;
impl Workloads {
 pub async fn start(cluster: Arc<Cluster>, mark: Mark, namespace: String, pods: PodOptions) -> Result<Arc<Self>, Fault> { todo!() }
 pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> { todo!() }
 pub async fn start_job(&self, job: &JobPod) -> Result<(), Fault> { todo!() }
 pub async fn job_ended(&self, j: &str, a: u32) -> JobEnd { todo!() }
 pub fn jobs(&self) -> Vec<JobSeen> { todo!() }
 pub async fn remove_job(&self, j: &str, a: u32) -> Result<(), Fault> { todo!() }
 pub async fn forget_job_secret(&self, j: &str, a: u32) -> Result<(), Fault> { todo!() }
 pub async fn sweep_secrets(&self) -> Result<usize, Fault> { todo!() }
 pub async fn job_output(&self, j: &str, a: u32) -> Result<Option<String>, Fault> { todo!() }
 pub async fn put_function(&self, f: &FunctionPods) -> Result<(), Fault> { todo!() }
 pub async fn remove_function(&self, n: &str) -> Result<(), Fault> { todo!() }
 pub fn functions(&self) -> Vec<String> { todo!() }
 pub fn function(&self, n: &str) -> FunctionSeen { todo!() }
 pub async fn delete_pod(&self, n: &str, u: &str) -> Result<(), Fault> { todo!() }
}
pub struct JobPod { pub job_id: String, pub attempt: u32, pub revision: u64, pub args: Vec<String>, pub env: BTreeMap<String,String>, pub secret: BTreeMap<String,String>, pub node_selector: BTreeMap<String,String>, pub memory_mb: u64, pub deadline: Duration, pub ttl: Duration }
pub struct JobSeen { pub job_id: String, pub attempt: u32, pub revision: u64, pub ended: bool }
pub enum JobEnd { Succeeded, Failed { exit_code: Option<i32>, problem: Problem }, Gone }
pub struct FunctionPods { pub name: String, pub edition: String, pub args: Vec<String>, pub env: BTreeMap<String,String>, pub secret: BTreeMap<String,String>, pub node_selector: BTreeMap<String,String>, pub memory_mb: u64, pub replicas: u32, pub autoscale: Option<Autoscale>, pub grace: Duration, pub port: u16, pub start_patience: Duration }
pub struct Autoscale { pub min: u32, pub max: u32, pub target_percent: u32, pub up_window: u32, pub down_window: u32 }
pub struct FunctionSeen { pub exists: bool, pub desired: u32, pub pods: Vec<PodSeen>, pub problem: Option<Problem>, pub cpu_percent: Option<u32> }
pub struct PodSeen { pub name: String, pub uid: String, pub ip: Option<IpAddr>, pub node: Option<String>, pub edition: String, pub ready: bool, pub leaving: bool, pub restarts: u32, pub problem: Option<Problem> }
#[derive(Clone)] pub struct Problem { pub kind: ProblemKind, pub message: String }
#[derive(Clone, Copy, PartialEq, Eq)] pub enum ProblemKind { Image, Quota, Unschedulable, OutOfMemory, Crashed, Deadline, Evicted, Config, Other }
