//! A real Prometheus that scrapes a server under test.

use super::outside::{free_address, tool};
use super::{PATIENCE, TestApp, http};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    url: String,
    _dir: TempDir,
}

impl Prometheus {
    /// Its tool for rules; None, with a line that says so, where it is not set up.
    pub(crate) fn promtool() -> Option<PathBuf> {
        Some(tool("EDICT_TEST_PROMETHEUS")?.with_file_name("promtool"))
    }

    /// Scrapes `app` five times a second, under these rules.
    pub(crate) fn start(app: &TestApp, rules: &Path) -> Option<Self> {
        let program = tool("EDICT_TEST_PROMETHEUS")?;
        let (dir, address) = (TempDir::new().unwrap(), free_address());
        let targets = [app.url().replace("http://", "")];
        let config = serde_json::json!({
            "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
            "rule_files": [rules.canonicalize().unwrap()],
            "scrape_configs": [{"job_name": "edict", "static_configs": [{"targets": targets}]}],
        });
        let file = dir.path().join("prometheus.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Some(Self { child, url: format!("http://{address}"), _dir: dir })
    }

    /// The samples that a query finds now; None while it does not answer.
    pub(crate) async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let url = format!("{}/api/v1/query", self.url);
        let url = reqwest::Url::parse_with_params(&url, [("query", query)]).unwrap();
        let answer: Value = http().get(url).send().await.ok()?.json().await.ok()?;
        if answer["status"] == "error" {
            panic!("`{query}`: {answer}");
        }
        answer["data"]["result"].as_array().cloned()
    }

    /// Waits until a query finds something; returns what it found.
    pub(crate) async fn finds(&self, query: &str) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.query(query).await {
                Some(found) if !found.is_empty() => return found,
                _ => assert!(Instant::now() < end, "nothing is found by `{query}`"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The rules, when all have been evaluated.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let url = format!("{}/api/v1/rules", self.url);
            let answer: Value = http().get(url).send().await.unwrap().json().await.unwrap();
            let groups = answer["data"]["groups"].as_array().into_iter().flatten();
            let rules: Vec<Value> =
                groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
            if !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown") {
                return rules;
            }
            assert!(Instant::now() < end, "rules are not evaluated: {answer}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
