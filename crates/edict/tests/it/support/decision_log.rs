//! What the log of decisions has, and callers that fill it.

use super::{PATIENCE, Reply, TestApp, reply};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A request for a decision, by a user.
pub(crate) fn asked_by(user: &str) -> Value {
    json!({"action": "restart_pod", "resource": "pod:api-1", "type": "logged", "context": {"userId": user}})
}

impl TestApp {
    /// Asks for a decision.
    pub(crate) async fn asked(&self, request: &Value) -> Reply {
        self.engine_raw("POST", "/evaluate", request.to_string()).await
    }

    /// Looks into the log of decisions with these query parameters.
    pub(crate) async fn logged(&self, parameters: &[(&str, &str)]) -> Reply {
        let url = format!("{}/api/v1/policy/audit/logs", self.listener("engine"));
        reply(super::http().get(reqwest::Url::parse_with_params(&url, parameters).unwrap())).await
    }

    /// Every id in the log, once the server shows all of them; fails if one is there twice.
    pub(crate) async fn logged_ids(&self) -> BTreeSet<String> {
        let end = Instant::now() + PATIENCE;
        while self.logged(&[("limit", "1")]).await.json.get("pending").is_some() {
            assert!(Instant::now() < end, "the table does not catch up");
        }
        let (mut ids, mut after) = (Vec::<String>::new(), None);
        loop {
            let mut parameters = vec![("limit", "500")];
            parameters.extend(after.as_deref().map(|after| ("after", after)));
            let page = self.logged(&parameters).await;
            assert_eq!(page.status, 200, "{}", page.json);
            let logs = page.json["logs"].as_array().unwrap();
            ids.extend(logs.iter().map(|entry| entry["decisionId"].as_str().unwrap().to_owned()));
            after = page.json["next"].as_str().map(str::to_owned);
            assert_eq!(after.is_some(), page.json["hasMore"] == true);
            if after.is_none() {
                break;
            }
        }
        assert!(ids.is_sorted_by(|newer, older| newer > older), "the newest first, each once");
        ids.into_iter().collect()
    }
}

/// Callers that ask for decisions, each one after the other, until they are stopped.
pub(crate) struct Asking {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<BTreeSet<String>>>,
}

impl Asking {
    pub(crate) fn start(app: &TestApp) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = |caller: usize| {
            let url = format!("{}/api/v1/policy/evaluate", app.listener("engine"));
            tokio::spawn(ask(url, caller, Arc::clone(&stop), Arc::clone(&count)))
        };
        let tasks = (0..8).map(task).collect();
        Self { stop, count, tasks }
    }

    /// Waits until so many decisions have been received.
    pub(crate) async fn until(&self, decisions: usize) {
        let end = Instant::now() + PATIENCE;
        while self.count.load(Ordering::SeqCst) < decisions {
            assert!(Instant::now() < end, "the callers do not get on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Decisions received until now.
    pub(crate) fn received(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Stops the callers; returns the ids of the decisions that they received.
    pub(crate) async fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = BTreeSet::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        assert_eq!(all.len(), self.count.load(Ordering::SeqCst), "no id is given out twice");
        all
    }
}

async fn ask(url: String, caller: usize, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) -> BTreeSet<String> {
    let client = super::http_builder().timeout(Duration::from_secs(20)).build().unwrap();
    let mut received = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) {
        let request = client.post(&url).json(&asked_by(&format!("caller-{caller}")));
        let Ok(response) = request.send().await else {
            // The server is gone: what was under way may have been decided or not.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let status = response.status().as_u16();
        if let (200, Ok(decision)) = (status, response.json::<Value>().await) {
            received.insert(decision["decisionId"].as_str().unwrap().to_owned());
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
    received
}
