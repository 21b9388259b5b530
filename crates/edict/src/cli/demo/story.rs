//! The demo's steps. Each does something for real, prints it, and fails when it does not come out as it should.

mod deployed;
mod fleet;

use super::super::failure::Failure;
use super::super::output::Output;
use super::super::policy::{check_folder, pack, register, upload};
use super::server::DemoServer;
use edict_client::records::{ExecutePolicy, Manage, Object, Policy};
use edict_client::{Client, Error, Page};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

const URI: &str = "ip_allowlist:1.0-beta";

/// Looks where a policy has no business, and then never ends.
const NOSY: &str = r#"
import os

class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        pass

    def eval(self, parameters, input_data, context):
        if input_data["then"] == "loop":
            while True:
                pass
        found = {}
        for name in input_data["look_at"]:
            try:
                found[name] = os.listdir(name) if os.path.isdir(name) else open(name, "rb").read(4).hex()
            except OSError as error:
                found[name] = type(error).__name__
        return {"found": found, "variables": sorted(os.environ)}
"#;

/// What an application does with the SDK; the paths come in through the environment.
const APPLICATION: &str = r#"
import json, statistics, time
from aios_policy_sandbox import LocalPolicyEvaluator

with LocalPolicyEvaluator("ip_allowlist:1.0-beta", parameters={"local_allowlist": ["192.168.0.109"]}, mode="local") as rule:
    local = rule.execute_policy_rule({"ip": "192.168.0.109"})
    times = []
    for _ in range(2000):
        start = time.perf_counter()
        rule.execute_policy_rule({"ip": "192.168.0.109"})
        times.append(time.perf_counter() - start)
with LocalPolicyEvaluator("ip_allowlist:1.0-beta", mode="remote", executor_id="local") as rule:
    remote = rule.execute_policy_rule({"ip": "192.168.0.109"})
print(json.dumps({"local": local, "remote": remote, "microseconds": round(statistics.median(times) * 1e6, 2)}))
"#;

pub(super) struct Story {
    client: Client,
    url: String,
    started_in: Duration,
    sample: PathBuf,
    sdk: PathBuf,
    /// Where functions are deployed and jobs run; None: where the allocator says.
    executor: Option<String>,
    /// Functions that are deployed there.
    deployed: Vec<String>,
    step: usize,
}

impl Story {
    pub(super) fn new(
        server: &DemoServer,
        token: Option<&str>,
        sample: PathBuf,
        sdk: PathBuf,
    ) -> Result<Self, Failure> {
        let client = Client::new(&server.url, token)?;
        let (url, started_in) = (server.url.clone(), server.started_in);
        Ok(Self { client, url, started_in, sample, sdk, executor: None, deployed: Vec::new(), step: 0 })
    }

    fn heading(&mut self, out: &mut Output<'_>, text: &str) -> Result<(), Failure> {
        self.step += 1;
        out.line(&format!("\n{}. {text}", self.step))
    }

    pub(super) async fn opening(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.client.ready().await?;
        self.heading(out, "A server, with nothing to set up")?;
        out.line(&format!(
            "   ready at {} after {} ms; API pages at {}/docs",
            self.url,
            self.started_in.as_millis(),
            self.url
        ))
    }

    pub(super) async fn register(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Pack and register a policy: Python code with schemas, settings and parameters")?;
        let folder = check_folder(&self.sample)
            .map_err(|problems| Failure::failed(format!("the sample is not ready: {problems:?}")))?;
        let archive = pack(&folder)?;
        let size = archive.len();
        let asset = upload(&self.client, &folder.policy, archive).await?;
        let mut record = folder.record;
        record.insert("code".to_owned(), asset.asset_uri.clone().into());
        let stored = register(&self.client, URI, &record, false).await?.record;
        expect(stored.policy_rule_uri == URI, "the policy has its URI", &stored.policy_rule_uri)?;
        out.line(&format!("   {} bytes of code stored as asset {}", size, asset.asset_uri))?;
        out.line(&format!(
            "   registered as {URI}, pinned to sha256 {}",
            stored.code_digest.unwrap_or_default()
        ))
    }

    pub(super) async fn find(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        let filter = json!({"tags": {"$regex": "security"}, "version": {"$gte": "1.0"}});
        self.heading(out, &format!("Find it with a Mongo-style query: {filter}"))?;
        let found = self.client.query_policies::<Policy>(&filter, &Page::default()).await?.records;
        expect(found.len() == 1, "one policy is found", &found.len())?;
        for policy in found {
            out.line(&format!("   {}  {}", policy.policy_rule_uri, policy.description))?;
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(
            out,
            "Run it on an executor (Type 2): stateless, sandboxed, a process of its own per run",
        )?;
        for (ip, allowed) in [("127.0.0.1", true), ("10.9.9.9", false)] {
            let result = self.run(URI, json!({"ip": ip})).await?;
            expect(*at(&result, "/allowed") == allowed, "the policy decides", &result)?;
            out.line(&format!("   {{\"ip\": \"{ip}\"}} -> {result}"))?;
        }
        let mut times = Vec::new();
        for _ in 0..200 {
            let started = Instant::now();
            self.run(URI, json!({"ip": "127.0.0.1"})).await?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        out.line(&format!("   200 more runs over HTTP: median {:.2} ms", median.as_secs_f64() * 1e3))
    }

    pub(super) async fn manage(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Change what it knows while it serves: a management command")?;
        let data = json!({"ips": ["10.9.9.9"]});
        let command = Manage {
            policy_rule_uri: URI.to_owned(),
            action: "update_local_allowlist".to_owned(),
            data: data.as_object().cloned().unwrap_or_default(),
        };
        let answer = self.client.execute_mgmt_command("local", &command).await?;
        out.line(&format!("   update_local_allowlist {data} -> {answer}"))?;
        let result = self.run(URI, json!({"ip": "10.9.9.9"})).await?;
        expect(*at(&result, "/allowed") == true, "later runs know the new list", &result)?;
        out.line(&format!("   {{\"ip\": \"10.9.9.9\"}} -> {result}"))
    }

    pub(super) async fn refuse(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Input that does not fit is refused before any code runs")?;
        let error = self.refusal(self.run(URI, json!({"ip": "not an address"})).await, "input_invalid")?;
        out.line(&format!("   {{\"ip\": \"not an address\"}} -> {error}"))
    }

    pub(super) async fn contain(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(out, "Code that means harm stays in its box")?;
        let record = json!({
            "name": "nosy", "version": "1.0", "release_tag": "demo", "code": NOSY,
            "execution_limits": {"timeout_ms": 300},
        });
        self.client.create_policy(&record, true).await?;
        let database = self.sample.with_file_name("data").join("edict.db").display().to_string();
        let look_at = json!([database, "/etc/shadow"]);
        let result = self.run("nosy:1.0-demo", json!({"then": "look", "look_at": look_at})).await?;
        let readable = at(&result, "/found").as_object().is_some_and(|found| {
            found.values().any(|what| !what.as_str().is_some_and(|error| error.ends_with("Error")))
        });
        expect(!readable, "the policy reads neither the database nor passwords", &result)?;
        out.line(&format!("   opening the server's database and /etc/shadow -> {}", at(&result, "/found")))?;
        out.line(&format!("   environment variables that it sees -> {}", at(&result, "/variables")))?;
        let error =
            self.refusal(self.run("nosy:1.0-demo", json!({"then": "loop"})).await, "policy_timeout")?;
        out.line(&format!("   an endless loop -> {error}"))
    }

    pub(super) async fn python(&mut self, out: &mut Output<'_>) -> Result<(), Failure> {
        self.heading(
            out,
            "Use it from a Python application with the SDK: in its process (Type 1), and remotely",
        )?;
        let python = std::env::var_os("EDICT_PYTHON").unwrap_or_else(|| "python3".into());
        let application = Command::new(python)
            .args(["-c", APPLICATION])
            .env("PYTHONPATH", &self.sdk)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("POLICY_DB_URL", &self.url)
            .env("EDICT_CACHE_DIR", self.sdk.join("cache"))
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| Failure::failed(format!("cannot start Python: {error}")))?;
        let said: Value = serde_json::from_slice(&application.stdout).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&application.stderr).into_owned();
        expect(*at(&said, "/local/allowed") == true, "the policy runs in the application", &stderr)?;
        expect(*at(&said, "/remote/allowed") == false, "the policy runs remotely", &said)?;
        out.line(&format!(
            "   local:  {} (median of 2000 calls: {} µs)",
            at(&said, "/local"),
            at(&said, "/microseconds")
        ))?;
        out.line(&format!("   remote: {}", at(&said, "/remote")))
    }

    async fn run(&self, uri: &str, input: Value) -> Result<Value, Error> {
        let input_data = to_raw_value(&input).map_err(|error| Error::Invalid(error.to_string()))?;
        let (parameters, settings): (Option<Object>, Option<Object>) = (None, None);
        let request = ExecutePolicy { policy_rule_uri: uri.to_owned(), input_data, parameters, settings };
        Ok(self.client.execute_policy("local", &request, false).await?.data)
    }

    /// The server's own words, if it refused with this code.
    fn refusal(&self, result: Result<Value, Error>, code: &str) -> Result<String, Failure> {
        match result {
            Err(Error::Api(error)) if error.code == code => {
                Ok(format!("{} {}: {}", error.status, error.code, error.message))
            }
            Err(error) => Err(error.into()),
            Ok(value) => {
                Err(Failure::failed(format!("this should have been refused with `{code}`: {value}")))
            }
        }
    }
}

/// The part of a result that a JSON pointer names; null when it is missing.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

pub(super) fn expect(holds: bool, what: &str, seen: &impl std::fmt::Debug) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::failed(format!("{what}: it did not, the demo saw {seen:?}"))) }
}
