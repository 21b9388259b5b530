//! A runtime to test, policies to run on it, and a look at what they leave behind.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use edict_runtime::bundle::CodeDir;
use edict_runtime::environment::Python;
use edict_runtime::{
    ContextOp, Fault, Host, Isolation, Limits, LogRecord, Operation, Outcome, Policy, RunError, Runtime,
    RuntimeConfig,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Tests count the descriptors and processes of this one process, so they take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Keeps contexts in memory, one lock around all of them.
#[derive(Default)]
pub(crate) struct MemoryHost {
    pub(crate) contexts: Mutex<HashMap<String, Map<String, Value>>>,
    pub(crate) logged: Mutex<Vec<(String, LogRecord)>>,
}

#[async_trait]
impl Host for MemoryHost {
    async fn context(&self, uri: &str, operation: ContextOp) -> Result<Value, String> {
        let mut contexts = self.contexts.lock().unwrap();
        let map = contexts.entry(uri.to_owned()).or_default();
        let found = |value: Option<Value>| json!({ "found": value.is_some(), "value": value });
        Ok(match operation {
            ContextOp::Get { key } => found(map.get(&key).cloned()),
            ContextOp::Set { key, value, ttl_seconds } => {
                if ttl_seconds.is_some_and(|ttl| ttl <= 0.0) {
                    return Err("`ttl` must be above 0".to_owned());
                }
                map.insert(key, value);
                Value::Null
            }
            ContextOp::Delete { key } | ContextOp::Pop { key } => found(map.remove(&key)),
            ContextOp::SetDefault { key, value } => map.entry(key).or_insert(value).clone(),
            ContextOp::Incr { key, by } => {
                let old = map.get(&key).cloned().unwrap_or(json!(0));
                let (Some(old), Some(by)) = (old.as_i64(), by.as_i64()) else {
                    return Err(format!("`{key}` is not a number"));
                };
                map.insert(key, json!(old + by));
                json!(old + by)
            }
            ContextOp::Keys => map.keys().cloned().collect(),
            ContextOp::Items => Value::Object(map.clone()),
            ContextOp::Len => json!(map.len()),
            ContextOp::Clear => {
                map.clear();
                Value::Null
            }
            ContextOp::Update { entries } => {
                map.extend(entries);
                Value::Null
            }
        })
    }

    fn log(&self, uri: &str, record: &LogRecord) {
        self.logged.lock().unwrap().push((uri.to_owned(), record.clone()));
    }
}

pub(crate) struct Bed {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) host: Arc<MemoryHost>,
    pub(crate) folder: TempDir,
    descriptors: usize,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

pub(crate) const WELL_BEHAVED: &str = r#"
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters
    def eval(self, parameters, input_data, context):
        return {"sum": sum(input_data), "same": parameters is self.parameters, "id": self.rule_id}
"#;

/// A class whose `eval` is `body`.
pub(crate) fn policy_of(body: &str) -> String {
    let body = body.trim_end().lines().map(|line| format!("        {line}\n")).collect::<String>();
    format!(
        "class AIOSv1PolicyRule:\n    def __init__(self, rule_id, settings, parameters):\n        \
         self.rule_id, self.settings, self.parameters = rule_id, settings, parameters\n    \
         def eval(self, parameters, input_data, context):\n{body}"
    )
}

pub(crate) fn raw(value: Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

pub(crate) fn eval(input: Value) -> Operation {
    Operation::Eval { settings: raw(json!({"s": 1})), parameters: raw(json!({"p": 2})), input: raw(input) }
}

pub(crate) fn value(outcome: &Outcome) -> Value {
    serde_json::from_str(outcome.result.get()).unwrap()
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut RuntimeConfig)) -> Self {
        let turn = TURN.lock().await;
        let descriptors = open_descriptors();
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let mut config = config(folder.path());
        change(&mut config);
        let host = Arc::new(MemoryHost::default());
        let runtime = Runtime::start(config, Arc::<MemoryHost>::clone(&host)).await.unwrap();
        Self { runtime, host, folder, descriptors, _turn: turn }
    }

    /// A policy with this source as its function.py.
    pub(crate) fn policy(&self, name: &str, source: &str) -> Policy {
        let path = self.folder.path().join(format!("code-{name}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("function.py"), source).unwrap();
        Policy {
            uri: format!("{name}:1.0-stable"),
            code: Arc::new(CodeDir::open(&path).unwrap()),
            digest: format!("digest-of-{name}"),
            environment: None,
            limits: Limits { timeout: Duration::from_secs(20), ..Limits::default() },
            isolation: Isolation::Process,
        }
    }

    pub(crate) async fn run(&self, policy: &Policy, input: Value) -> Result<Outcome, RunError> {
        self.runtime.run(policy, eval(input)).await
    }

    /// The value, or a test failure that says what went wrong.
    pub(crate) async fn value(&self, policy: &Policy, input: Value) -> Value {
        match self.run(policy, input).await {
            Ok(outcome) => value(&outcome),
            Err(error) => panic!("{}: {error} {:?}", policy.uri, error.fault),
        }
    }

    pub(crate) async fn fault(&self, policy: &Policy, input: Value) -> Fault {
        match self.run(policy, input).await {
            Ok(outcome) => panic!("{} gave {}", policy.uri, outcome.result),
            Err(error) => error.fault,
        }
    }

    /// Stop, and find nothing left: no process, no file, no descriptor.
    pub(crate) async fn close(self) {
        self.runtime.stop(Duration::from_secs(5)).await;
        let left = processes_of(self.folder.path());
        assert!(left.is_empty(), "processes are left: {left:?}");
        let tmp: Vec<_> =
            fs::read_dir(self.folder.path().join("runtime/tmp")).into_iter().flatten().collect();
        assert!(tmp.is_empty(), "temporary files are left: {tmp:?}");
        drop(self.runtime);
        // The event loop closes a dropped descriptor when it next turns.
        wait_until("descriptors are left", || open_descriptors() <= self.descriptors).await;
    }
}

pub(crate) fn config(folder: &Path) -> RuntimeConfig {
    let launcher = PathBuf::from(env!("CARGO_BIN_EXE_edict-launch"));
    RuntimeConfig::new(folder.join("runtime"), python(), launcher)
}

/// Templates run as a uid of their own when the tests run as root.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn python() -> Python {
    let ask = "import sys;print(sys.executable);print(*sys.version_info[:3]);print(sys.base_prefix)";
    let name = std::env::var("EDICT_TEST_INTERPRETER").unwrap_or_else(|_| "python3".to_owned());
    let output = std::process::Command::new(name).args(["-c", ask]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap();
    let executable = next().into();
    let version: Vec<u32> = next().split(' ').map(|part| part.parse().unwrap()).collect();
    Python { executable, version: (version[0], version[1], version[2]), roots: vec![next().into()] }
}

/// Pipes and process handles: each child has two of the one, each template one of the other. Sockets are not
/// counted: the event loops of tests that wait for their turn have some.
pub(crate) fn open_descriptors() -> usize {
    let ours = |link: std::path::PathBuf| {
        let text = link.display().to_string();
        text.starts_with("pipe:") || text.contains("pidfd")
    };
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(ours)).count()
}

/// Processes that see a file below `folder`: a sandbox has its policy's code mounted, or on its command line.
pub(crate) fn processes_of(folder: &Path) -> Vec<String> {
    let needle = folder.display().to_string();
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) || name == own {
            continue;
        }
        let read = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        if read("stat").contains(") Z ") {
            continue;
        }
        if read("mountinfo").contains(&needle) || read("cmdline").contains(&needle) {
            found.push(format!("{name}: {}", read("cmdline").replace('\0', " ")));
        }
    }
    found
}

pub(crate) async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
