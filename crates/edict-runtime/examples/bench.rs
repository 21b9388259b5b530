//! How fast runs are, as one JSON line: `bench [runs] [python] [process|instance]`. Build with `--release`.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use edict_runtime::bundle::CodeDir;
use edict_runtime::environment::Python;
use edict_runtime::{
    ContextOp, Host, Isolation, Limits, LogRecord, Operation, Policy, Runtime, RuntimeConfig,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

const SOURCE: &str = r#"
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters
        self.calls = 0

    def eval(self, parameters, input_data, context):
        self.calls += 1
        ip = input_data.get("ip")
        allowed = ip in parameters.get("local_allowlist", [])
        return {"allowed": allowed, "reason": "allowed" if allowed else "denied", "input_data": input_data}
"#;

type Failure = Box<dyn Error + Send + Sync>;

struct NoContext;

#[async_trait]
impl Host for NoContext {
    async fn context(&self, _: &str, _: ContextOp) -> Result<Value, String> {
        Err("none here".to_owned())
    }
    fn log(&self, _: &str, _: &LogRecord) {}
}

fn main() -> Result<(), Failure> {
    if edict_runtime::launch::requested() {
        edict_runtime::launch::main();
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments.next().map_or(Ok(5000), |text| text.parse())?;
    let python = Python::discover(arguments.next().as_deref().map(Path::new)).await?;
    let only = arguments.next();
    let dir = tempfile::tempdir()?;
    let code = dir.path().join("code");
    std::fs::create_dir(&code)?;
    std::fs::write(code.join("function.py"), SOURCE)?;
    let config = RuntimeConfig::new(dir.path().join("runtime"), python, std::env::current_exe()?);
    let started = Instant::now();
    let runtime = Runtime::start(config, Arc::new(NoContext)).await?;
    let mut out = Map::from_iter([
        ("start_ms".to_owned(), json!(ms(started.elapsed()))),
        ("runs".to_owned(), json!(runs)),
    ]);
    for (name, isolation, runs) in
        [("process", Isolation::Process, runs), ("instance", Isolation::Instance, runs * 10)]
    {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let policy = Arc::new(Policy {
            uri: "ip-allowlist:1.0-stable".to_owned(),
            code: Arc::new(CodeDir::open(&code)?),
            digest: "bench".to_owned(),
            environment: None,
            limits: Limits::default(),
            isolation,
        });
        let first = Instant::now();
        run(&runtime, &policy).await?;
        let first = ms(first.elapsed());
        let one = load(&runtime, &policy, 1, runs).await?;
        let sixteen = load(&runtime, &policy, 16, runs).await?;
        out.insert(
            name.to_owned(),
            json!({ "first_ms": first, "one_caller": one, "sixteen_callers": sixteen }),
        );
    }
    out.insert("sandbox".to_owned(), serde_json::to_value(runtime.sandbox_report())?);
    out.insert("stats".to_owned(), serde_json::to_value(runtime.stats())?);
    let total = runtime.stats().runs;
    runtime.stop(Duration::from_secs(1)).await;
    // Known once all are reaped: this process's CPU, and that of all templates and runs together.
    let cpu = |who| -> Result<f64, Failure> {
        let used = nix::sys::resource::getrusage(who)?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(((seconds(used.user_time()) + seconds(used.system_time())) / total as f64 * 1e6).round())
    };
    let used = json!({
        "host": cpu(nix::sys::resource::UsageWho::RUSAGE_SELF)?,
        "workers": cpu(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?,
    });
    out.insert("cpu_us_per_run".to_owned(), used);
    println!("{}", Value::Object(out));
    Ok(())
}

async fn run(runtime: &Runtime, policy: &Policy) -> Result<(), Failure> {
    let raw = |text: &str| RawValue::from_string(text.to_owned());
    let operation = Operation::Eval {
        settings: raw("{}")?,
        parameters: raw(r#"{"local_allowlist":["10.0.0.1","10.0.0.2"]}"#)?,
        input: raw(r#"{"ip":"10.0.0.1"}"#)?,
    };
    let outcome = runtime.run(policy, operation).await?;
    if outcome.result.get().starts_with(r#"{"allowed":true"#) { Ok(()) } else { Err("a wrong result".into()) }
}

async fn load(
    runtime: &Arc<Runtime>,
    policy: &Arc<Policy>,
    callers: usize,
    runs: usize,
) -> Result<Value, Failure> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (runtime, policy) = (Arc::clone(runtime), Arc::clone(policy));
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..runs / callers {
                    let started = Instant::now();
                    run(&runtime, &policy).await?;
                    times.push(started.elapsed());
                }
                Ok::<_, Failure>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let whole = started.elapsed();
    times.sort();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().map(ms);
    Ok(json!({
        "runs_per_s": (times.len() as f64 / whole.as_secs_f64()).round(),
        "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999),
    }))
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
