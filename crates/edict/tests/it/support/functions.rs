//! Deploying functions and calling them.

use super::{PATIENCE, TestApp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;

impl TestApp {
    /// Deploys a function on an executor and waits until its replicas are ready or have failed.
    pub(crate) async fn deploy(&self, executor: &str, name: &str, uri: &str, more: Value) -> (u16, Value) {
        let mut deployment = json!({"name": name, "policy_rule_uri": uri});
        deployment.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.json("POST", &format!("/function/deployments/create/{executor}?wait=60s"), &deployment).await
    }

    /// Deploys a function that must get ready; returns its record.
    pub(crate) async fn deployed(&self, executor: &str, name: &str, uri: &str, more: Value) -> Value {
        let (status, mut reply) = self.deploy(executor, name, uri, more).await;
        assert_eq!(status, 200, "{reply}");
        assert_eq!(reply["data"]["function_status"]["state"], "ready", "{reply}");
        reply["data"].take()
    }

    /// Changes a function and waits until the change has reached all replicas or failed.
    pub(crate) async fn change_function(&self, name: &str, change: &Value) -> (u16, Value) {
        self.json("PUT", &format!("/function/deployments/{name}?wait=60s"), change).await
    }

    /// Calls a function.
    pub(crate) async fn call(&self, name: &str, input: Value) -> (u16, Value) {
        self.json("POST", &format!("/function/call_function/{name}"), &input).await
    }

    /// Calls a function, which must succeed.
    pub(crate) async fn called(&self, name: &str, input: Value) -> Value {
        let (status, mut reply) = self.call(name, input).await;
        assert_eq!(status, 200, "{reply}");
        reply["data"].take()
    }

    /// Sends a function a management command.
    pub(crate) async fn command(&self, name: &str, action: &str, data: Value) -> (u16, Value) {
        let command = json!({"action": action, "data": data});
        self.json("POST", &format!("/function/management/{name}"), &command).await
    }

    /// A function's status, once this holds for it.
    pub(crate) async fn status_when(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let (_, mut reply) = self.get(&format!("/function/{name}")).await;
            let status = reply["data"]["function_status"].take();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < end, "it does not come to that: {status}\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A process of this server that has a file of this name open.
    pub(crate) fn process_with_open_file(&self, name: &str) -> Option<u32> {
        let holds = |pid: &u32| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|path| path.ends_with(name))
        };
        super::pids_of(&self.data_dir(), self.pid()).into_iter().find(holds)
    }

    /// A function's status, once all its replicas are ready again.
    pub(crate) async fn settled(&self, name: &str) -> Value {
        self.status_when(name, |status| status["state"] == "ready").await
    }
}

/// Callers that go on until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<(u16, Value)>>>,
}

impl Load {
    /// `callers` that call a function one time after the other.
    pub(crate) fn start(app: &TestApp, name: &str, input: &Value, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let request = app.request("POST", &format!("/function/call_function/{name}")).body(input.to_string());
        let caller = |_| {
            let (stop, request) = (Arc::clone(&stop), request.try_clone().unwrap());
            tokio::spawn(async move {
                let mut replies = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let response = request.try_clone().unwrap().send().await.unwrap();
                    let status = response.status().as_u16();
                    replies.push((status, response.json().await.unwrap_or_default()));
                }
                replies
            })
        };
        let tasks = (0..callers).map(caller).collect();
        Self { stop, tasks }
    }

    /// Tells the callers to stop; returns what they were answered.
    pub(crate) async fn stop(self) -> Vec<(u16, Value)> {
        self.stop.store(true, Ordering::SeqCst);
        futures::future::join_all(self.tasks).await.into_iter().flat_map(|task| task.unwrap()).collect()
    }
}
