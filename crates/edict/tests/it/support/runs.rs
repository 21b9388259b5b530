//! Registering policies and running them.

use super::{TestApp, policy, policy_source};
use edict_client::records::{AssetVersion, Object};
use edict_client::{Content, NewAsset};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The sample policy that ships.
pub(crate) const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/ip_allowlist");

impl TestApp {
    /// Registers a policy whose `eval` has this body; returns its URI.
    pub(crate) async fn add(&self, name: &str, body: &str) -> String {
        self.register_record(policy(name, &policy_source(body))).await
    }

    /// Registers a policy with these `execution_limits`; returns its URI.
    pub(crate) async fn register_limited(&self, name: &str, source: &str, limits: Value) -> String {
        let mut record = policy(name, source);
        record["execution_limits"] = limits;
        self.register_record(record).await
    }

    /// Registers a policy; returns its URI.
    pub(crate) async fn register_record(&self, record: Value) -> String {
        self.register(&record).await["data"]["policy_rule_uri"].as_str().unwrap().to_owned()
    }

    /// Packs these files, uploads them and registers them as a policy; returns its URI.
    pub(crate) async fn register_archive(&self, name: &str, files: &[(&str, &str)]) -> String {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let asset = NewAsset {
            asset_name: name.to_owned(),
            asset_version: AssetVersion { version: "1.0".to_owned(), tag: "code".to_owned() },
            asset_metadata: Object::new(),
            asset_tags: Vec::new(),
        };
        let content = Content::from_bytes("code.zip", edict_runtime::bundle::pack(folder.path()).unwrap());
        let stored = self.client().upload_asset(&asset, content).await.unwrap();
        self.register_record(policy(name, &stored.record.asset_uri)).await
    }

    /// The policies that the test registered, as the list of their records.
    pub(crate) async fn own_policies(&self) -> Value {
        let (_, mut found) =
            self.json("POST", "/policy/query", &json!({"name": {"$ne": "default_allocator"}})).await;
        found["data"].take()
    }

    /// Runs a policy on the built-in executor.
    pub(crate) async fn run(&self, uri: &str, input: Value) -> (u16, Value) {
        self.run_on("local", uri, input).await
    }

    /// Runs a policy on an executor.
    pub(crate) async fn run_on(&self, executor: &str, uri: &str, input: Value) -> (u16, Value) {
        let request = json!({"policy_rule_uri": uri, "input_data": input});
        self.json("POST", &format!("/executor/{executor}/execute_policy"), &request).await
    }

    /// Runs a policy that must succeed; returns what it gave back.
    pub(crate) async fn result(&self, uri: &str, input: Value) -> Value {
        let (status, mut reply) = self.run(uri, input).await;
        assert_eq!(status, 200, "{reply}");
        reply["data"].take()
    }

    /// Sends a management command to a policy on an executor.
    pub(crate) async fn manage(&self, executor: &str, uri: &str, action: &str, data: Value) -> (u16, Value) {
        let request = json!({"policy_rule_uri": uri, "action": action, "data": data});
        self.json("POST", &format!("/executor/{executor}/execute_mgmt_command"), &request).await
    }

    /// The reply to a request, with its headers.
    pub(crate) async fn respond(&self, path: &str, body: &Value) -> reqwest::Response {
        self.request("POST", path).body(body.to_string()).send().await.unwrap()
    }

    /// The server's open descriptors but for those of the database, which keeps as many connections as it likes.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let folder = format!("/proc/{}/fd", self.pid());
        let target = |entry: fs::DirEntry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned);
        let mut open: Vec<String> = fs::read_dir(folder).unwrap().flatten().filter_map(target).collect();
        open.retain(|path| !path.contains("edict.db"));
        open.iter_mut().for_each(|path| path.truncate(path.find(":[").unwrap_or(path.len())));
        open.sort();
        open
    }

    /// Processes of this server, itself not counted, right now.
    pub(crate) fn processes(&self) -> usize {
        super::processes_of(&self.data_dir(), self.pid()).len()
    }
}

/// Status and error code of a reply, for comparing in one go.
pub(crate) fn refusal((status, reply): &(u16, Value)) -> (u16, &str) {
    (*status, reply["error"]["code"].as_str().unwrap_or_default())
}

/// Every file and folder below a folder, as paths relative to it.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            found.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
