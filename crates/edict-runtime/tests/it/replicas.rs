//! Replicas and the pool that shares calls out among them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edict_runtime::{Birth, Fault, Limit, Policy, Pool, Replica, RunError};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{Bed, policy_of, raw, wait_until};

/// Counts its calls, tells its process, and does what its input says.
const ACTOR: &str = r#"
import os, sys, time
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.rule_id, self.settings, self.parameters = rule_id, settings, parameters
        self.calls = 0
    def eval(self, parameters, input_data, context):
        self.calls += 1
        if "mark" in input_data: context.incr(input_data["mark"])
        if "sleep" in input_data: time.sleep(input_data["sleep"])
        if "exit" in input_data: os._exit(input_data["exit"])
        if "raise" in input_data: raise ValueError(input_data["raise"])
        if "print" in input_data: print(input_data["print"])
        if "burn" in input_data:
            end = time.process_time() + input_data["burn"]
            while time.process_time() < end: pass
        if "grow" in input_data: return len(bytearray(input_data["grow"]))
        return {"calls": self.calls, "parameters": parameters, "echo": input_data.get("echo")}
    def management(self, action, data):
        if action == "set":
            self.parameters["x"] = data["x"]
        elif action == "replace":
            self.parameters = data
        return {"calls": self.calls}
"#;

fn birth(name: &str) -> (Birth, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let log = Arc::new(move |record: &edict_runtime::LogRecord| {
        kept.lock().unwrap().push(format!("{}: {}", record.source, record.message));
    });
    let birth =
        Birth { settings: raw(json!({})), parameters: raw(json!({"x": 1})), scope: name.to_owned(), log };
    (birth, lines)
}

async fn start(bed: &Bed, policy: &Policy) -> Result<Arc<Replica>, RunError> {
    bed.runtime.start_replica(policy, birth("function/f").0).await
}

async fn pool(bed: &Bed, policy: &Policy, replicas: usize) -> (Arc<Pool>, Vec<Arc<Replica>>) {
    let pool = Pool::new(100, Duration::from_secs(20));
    let mut all = Vec::new();
    for _ in 0..replicas {
        let replica = start(bed, policy).await.unwrap();
        pool.add(Arc::clone(&replica));
        all.push(replica);
    }
    (pool, all)
}

fn parse(result: &RawValue) -> Value {
    serde_json::from_str(result.get()).unwrap()
}

async fn call(pool: &Pool, input: Value) -> Value {
    match pool.call(&raw(input)).await {
        Ok(result) => parse(&result),
        Err(error) => panic!("{error:?}"),
    }
}

async fn fault(pool: &Pool, input: Value) -> Fault {
    pool.call(&raw(input)).await.unwrap_err().fault
}

/// Starts a call that begins by marking the context, and waits until it has begun.
async fn begin(
    bed: &Bed,
    pool: &Arc<Pool>,
    mark: &str,
    rest: Value,
) -> tokio::task::JoinHandle<Result<Value, Fault>> {
    let mut input = rest;
    input["mark"] = json!(mark);
    let pool = Arc::clone(pool);
    let task = tokio::spawn(async move {
        let result = pool.call(&raw(input)).await;
        result.map(|result| parse(&result)).map_err(|error| error.fault)
    });
    wait_until("the call does not begin", || marked(bed, mark) == 1).await;
    task
}

fn marked(bed: &Bed, mark: &str) -> i64 {
    let contexts = bed.host.contexts.lock().unwrap();
    contexts.get("function/f").and_then(|map| map.get(mark)).and_then(Value::as_i64).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_answers_call_after_call() {
    for namespaces in [true, false] {
        let bed = Bed::with(|config| config.namespaces = namespaces).await;
        let (pool, replicas) = pool(&bed, &bed.policy("actor", ACTOR), 1).await;
        for count in 1..=50 {
            let expected = json!({"calls": count, "parameters": {"x": 1}, "echo": "ü"});
            assert_eq!(call(&pool, json!({"echo": "ü"})).await, expected);
        }
        assert_eq!(pool.stats().replicas, 1);
        pool.retire(&replicas[0], Duration::from_secs(5)).await;
        assert_eq!(pool.stats().replicas, 0);
        drop(replicas);
        bed.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_each_get_their_own_answer() {
    let bed = Bed::new().await;
    let (pool, _) = pool(&bed, &bed.policy("actor", ACTOR), 3).await;
    let mut callers = Vec::new();
    for number in 0..64 {
        let pool = Arc::clone(&pool);
        callers.push(tokio::spawn(async move {
            for round in 0..50 {
                let mine = json!([number, round]);
                assert_eq!(call(&pool, json!({"echo": mine})).await["echo"], mine);
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_to_the_replica_that_is_free() {
    let bed = Bed::new().await;
    let (pool, _) = pool(&bed, &bed.policy("actor", ACTOR), 2).await;
    // Short calls first, so that some may be sent ahead.
    for _ in 0..200 {
        call(&pool, json!({})).await;
    }
    let slow = begin(&bed, &pool, "slow", json!({"sleep": 3600})).await;
    for _ in 0..20 {
        call(&pool, json!({})).await;
    }
    assert_eq!(pool.stats().busy, 1);
    slow.abort();
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_costs_only_the_call_that_it_was_at() {
    let bed = Bed::new().await;
    let (pool, replicas) = pool(&bed, &bed.policy("actor", ACTOR), 1).await;
    for _ in 0..200 {
        call(&pool, json!({})).await;
    }
    let victim = begin(&bed, &pool, "victim", json!({"sleep": 3600})).await;
    // Some of these are sent ahead to the busy replica, the others wait in the queue.
    let others: Vec<_> = (0..60)
        .map(|number| {
            let pool = Arc::clone(&pool);
            tokio::spawn(
                async move { call(&pool, json!({"echo": number, "mark": format!("m{number}")})).await },
            )
        })
        .collect();
    wait_until("the others do not queue", || pool.stats().waiting > 0).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(replicas[0].pid()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    assert_eq!(replicas[0].ended().await, "was killed by SIGKILL");
    assert_eq!(
        victim.await.unwrap(),
        Err(Fault::Crashed { how: "was killed by SIGKILL".to_owned() }),
        "the caller in the middle is told"
    );
    pool.add(start(&bed, &bed.policy("actor", ACTOR)).await.unwrap());
    for (number, other) in others.into_iter().enumerate() {
        assert_eq!(other.await.unwrap()["echo"], number);
        assert_eq!(marked(&bed, &format!("m{number}")), 1, "a call was carried out twice");
    }
    assert_eq!(replicas[0].cpu(), None);
    drop(replicas);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_its_time_ends_its_replica_and_nothing_else() {
    let bed = Bed::new().await;
    let mut policy = bed.policy("actor", ACTOR);
    let (pool, _) = pool(&bed, &policy, 1).await;
    policy.limits.timeout = Duration::from_millis(300);
    let hasty = start(&bed, &policy).await.unwrap();
    pool.add(Arc::clone(&hasty));
    let mut faults = HashSet::new();
    for _ in 0..2 {
        // Whichever of the two takes it.
        if let Err(error) = pool.call(&raw(json!({"sleep": 1}))).await {
            faults.insert(error.to_string());
        }
    }
    assert_eq!(faults.len(), 1);
    assert!(faults.iter().all(|fault| fault.contains("timeout_ms")), "{faults:?}");
    hasty.ended().await;
    assert_eq!(pool.stats().replicas, 1);
    call(&pool, json!({})).await;
    drop(hasty);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn management_takes_its_turn_and_changes_what_later_calls_get() {
    let bed = Bed::new().await;
    let (pool, replicas) = pool(&bed, &bed.policy("actor", ACTOR), 1).await;
    let replica = &replicas[0];
    call(&pool, json!({})).await;
    let managed = replica.manage("look", &raw(json!({}))).await.unwrap();
    assert_eq!(parse(&managed.result), json!({"calls": 1}));
    assert!(managed.settings.is_none() && managed.parameters.is_none());
    let managed = replica.manage("set", &raw(json!({"x": 2}))).await.unwrap();
    assert_eq!(parse(&managed.parameters.unwrap()), json!({"x": 2}));
    assert_eq!(call(&pool, json!({})).await["parameters"], json!({"x": 2}));
    let managed = replica.manage("replace", &raw(json!({"y": 3}))).await.unwrap();
    assert_eq!(parse(&managed.parameters.unwrap()), json!({"y": 3}));
    assert_eq!(call(&pool, json!({})).await["parameters"], json!({"y": 3}));
    let dumb = bed.policy("dumb", &policy_of("return 1"));
    let dumb = start(&bed, &dumb).await.unwrap();
    assert_eq!(dumb.manage("x", &raw(json!({}))).await.unwrap_err().fault, Fault::NoManagement);
    drop(dumb);
    drop(replicas);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_leave_the_replica_as_it_is() {
    let bed = Bed::new().await;
    let (pool, _) = pool(&bed, &bed.policy("actor", ACTOR), 1).await;
    match fault(&pool, json!({"raise": "no"})).await {
        Fault::Failed { kind, message, traceback } => {
            assert_eq!((kind.as_str(), message.as_str()), ("ValueError", "no"));
            assert_eq!(traceback.len(), 1);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(call(&pool, json!({})).await["calls"], 2);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_exits_or_runs_out_of_memory_is_over() {
    let bed = Bed::new().await;
    let mut policy = bed.policy("actor", ACTOR);
    policy.limits.memory_mb = 64;
    let (pool, replicas) = pool(&bed, &policy, 2).await;
    let exits = fault(&pool, json!({"exit": 3})).await;
    assert_eq!(exits, Fault::Crashed { how: "exited with code 3".to_owned() });
    let grows = fault(&pool, json!({"grow": 200 << 20})).await;
    assert_eq!(grows, Fault::Limit(Limit::Memory(64)));
    for replica in &replicas {
        replica.ended().await;
    }
    assert_eq!(pool.stats().replicas, 0);
    drop(replicas);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_forges_answers_is_ended() {
    let bed = Bed::new().await;
    let forger = policy_of(
        "import os\nfor fd in range(3, 16):\n    try: os.write(fd, b'D\\x01\\x00\\x00\\x007' * 3)\n    except OSError: pass\nreturn 1",
    );
    let (pool, replicas) = pool(&bed, &bed.policy("forger", &forger), 1).await;
    // The first forged answer may pass for the call's own; the next has no call.
    let _ = pool.call(&raw(json!(1))).await;
    replicas[0].ended().await;
    drop(replicas);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_context_arrive_also_from_threads() {
    let bed = Bed::new().await;
    let source = r#"
import threading, time
class AIOSv1PolicyRule:
    def __init__(self, rule_id, settings, parameters):
        self.parameters, self.context, self.stop = parameters, None, False
    def work(self):
        import logging
        self.context.incr("beats")
        logging.warning("beat")
    def eval(self, parameters, input_data, context):
        self.context = context
        thread = threading.Thread(target=self.work)
        thread.start()
        context.incr("calls")
        print("called")
        thread.join()
        return context.get("beats")
"#;
    let policy = bed.policy("threads", source);
    let (birth, lines) = birth("function/f");
    let replica = bed.runtime.start_replica(&policy, birth).await.unwrap();
    let pool = Pool::new(1, Duration::from_secs(1));
    pool.add(replica);
    for count in 1..=20 {
        assert_eq!(call(&pool, json!({})).await, count);
    }
    wait_until("lines are missing", || {
        let lines = lines.lock().unwrap();
        let count = |line: &str| lines.iter().filter(|other| *other == line).count();
        count("root: beat") == 20 && count("stdout: called") == 20
    })
    .await;
    assert_eq!(marked(&bed, "calls"), 20);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_start_says_why() {
    let bed = Bed::new().await;
    let broken = bed.policy("broken", "import nothing_of_this_name\n");
    let error = start(&bed, &broken).await.unwrap_err().fault;
    assert!(matches!(&error, Fault::Load { kind, .. } if kind == "ModuleNotFoundError"), "{error:?}");
    let init = "class AIOSv1PolicyRule:\n    def __init__(self, *args): raise KeyError('no')\n    def eval(self, *args): pass\n";
    let error = start(&bed, &bed.policy("init", init)).await.unwrap_err().fault;
    assert!(matches!(&error, Fault::Failed { kind, .. } if kind == "KeyError"), "{error:?}");
    let mut slow = bed.policy("slow", "while True: pass\n");
    slow.limits.timeout = Duration::from_millis(300);
    let error = start(&bed, &slow).await.unwrap_err().fault;
    assert_eq!(error, Fault::Limit(Limit::Timeout(Duration::from_millis(300))));
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded_in_length_and_time() {
    let bed = Bed::new().await;
    let pool = Pool::new(2, Duration::from_millis(200));
    let busy = |fault: Fault| matches!(fault, Fault::Busy { .. });
    let asked = std::time::Instant::now();
    assert!(busy(fault(&pool, json!({})).await), "nobody comes to take the call");
    assert!(asked.elapsed() >= Duration::from_millis(200));
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { fault(&pool, json!({})).await })
        })
        .collect();
    wait_until("they do not wait", || pool.stats().waiting == 2).await;
    assert!(busy(fault(&pool, json!({})).await), "the queue is full");
    for waiter in waiting {
        assert!(busy(waiter.await.unwrap()));
    }
    assert_eq!(pool.stats().waiting, 0);
    pool.close();
    assert_eq!(fault(&pool, json!({})).await, Fault::Stopping);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_give_up_leave_their_place() {
    let bed = Bed::new().await;
    let pool = Pool::new(1, Duration::from_secs(20));
    let gone = tokio::time::timeout(Duration::from_millis(50), pool.call(&raw(json!({})))).await;
    assert!(gone.is_err());
    let (patient, policy) = (Arc::clone(&pool), bed.policy("actor", ACTOR));
    let waits = tokio::spawn(async move { call(&patient, json!({})).await });
    wait_until("the second gets no place", || pool.stats().waiting == 1).await;
    pool.add(start(&bed, &policy).await.unwrap());
    assert_eq!(waits.await.unwrap()["calls"], 1, "the call that was given up is not carried out");
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_replica_finishes_what_it_has() {
    let bed = Bed::new().await;
    let (pool, replicas) = pool(&bed, &bed.policy("actor", ACTOR), 1).await;
    let slow = begin(&bed, &pool, "slow", json!({"sleep": 0.3, "echo": "done"})).await;
    pool.retire(&replicas[0], Duration::from_secs(20)).await;
    assert_eq!(slow.await.unwrap().unwrap()["echo"], "done");
    replicas[0].ended().await;
    drop(replicas);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_inputs_and_results_pass() {
    let bed = Bed::new().await;
    let (pool, _) = pool(&bed, &bed.policy("actor", ACTOR), 1).await;
    let text = "ä".repeat(4 << 20);
    let answer = call(&pool, json!({"echo": text})).await;
    assert_eq!(answer["echo"].as_str().unwrap().len(), 8 << 20);
    let large = "x".repeat(17 << 20);
    assert_eq!(fault(&pool, json!({"echo": large})).await, Fault::Limit(Limit::Result(16 << 20)));
    assert_eq!(call(&pool, json!({})).await["calls"], 3);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_time_is_told() {
    let bed = Bed::new().await;
    let (pool, replicas) = pool(&bed, &bed.policy("actor", ACTOR), 1).await;
    let before = replicas[0].cpu().unwrap();
    call(&pool, json!({"burn": 0.2})).await;
    assert!(replicas[0].cpu().unwrap() - before >= Duration::from_millis(150));
    drop(replicas);
    bed.close().await;
}
