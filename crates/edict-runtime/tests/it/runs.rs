//! What a run gives, and what the next one doesn't see of it.

use std::time::Duration;

use edict_runtime::{Fault, Isolation, LogLevel, Operation};
use serde_json::json;

use crate::support::{Bed, WELL_BEHAVED, eval, policy_of, raw, value};

#[tokio::test(flavor = "multi_thread")]
async fn eval_gets_what_the_caller_gave() {
    let bed = Bed::new().await;
    for isolation in [Isolation::Process, Isolation::Instance] {
        let mut policy = bed.policy("good", WELL_BEHAVED);
        policy.isolation = isolation;
        let given = bed.value(&policy, json!([1, 2, 3])).await;
        assert_eq!(given, json!({"sum": 6, "same": true, "id": "good:1.0-stable"}));
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_memory_is_seen_by_the_next_run() {
    let source = "
count = 0
seen = []
class AIOSv1PolicyRule:
    shared = []
    def __init__(self, rule_id, settings, parameters):
        self.mine = 0
    def eval(self, parameters, input_data, context):
        global count
        count += 1; self.mine += 1; seen.append(1); self.shared.append(1)
        import os
        files = os.listdir(os.environ['TMPDIR'])
        open(os.environ['TMPDIR'] + '/left', 'w').close()
        return [count, self.mine, len(seen), len(self.shared), files]
";
    let bed = Bed::new().await;
    for isolation in [Isolation::Process, Isolation::Instance] {
        let mut policy = bed.policy("counter", source);
        policy.isolation = isolation;
        // More than there are temporary folders, so that each is used again.
        for _ in 0..80 {
            assert_eq!(bed.value(&policy, json!(0)).await, json!([1, 1, 1, 1, []]));
        }
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_pass_unchanged() {
    let bed = Bed::new().await;
    let policy = bed.policy("echo", &policy_of("return input_data"));
    let text = r#"{"é\u0000\"":[1.5,-0.0,1e300,12345678901234567890123,"\ud83d\ude00",null,true]}"#;
    let operation = Operation::Eval {
        settings: raw(json!({})),
        parameters: raw(json!({})),
        input: serde_json::value::RawValue::from_string(text.to_owned()).unwrap(),
    };
    let outcome = bed.runtime.run(&policy, operation).await.unwrap();
    assert_eq!(
        outcome.result.get(),
        "{\"é\\u0000\\\"\":[1.5,-0.0,1e+300,12345678901234567890123,\"😀\",null,true]}"
    );
    let big = "y".repeat(10 << 20);
    assert_eq!(bed.value(&policy, json!(big)).await, json!(big));
    for plain in [json!(null), json!(1), json!("x"), json!([])] {
        assert_eq!(bed.value(&policy, plain.clone()).await, plain);
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_names_the_policys_own_frames_only() {
    let bed = Bed::new().await;
    let source = "import helper\n".to_owned() + &policy_of("return helper.go(input_data)");
    let policy = bed.policy("raiser", &source);
    std::fs::write(policy.code.path.join("helper.py"), "import json\ndef go(x):\n    return json.loads(x)\n")
        .unwrap();
    for isolation in [Isolation::Process, Isolation::Instance] {
        let policy = edict_runtime::Policy { isolation, ..policy.clone() };
        let Fault::Failed { kind, message, traceback } = bed.fault(&policy, json!("{")).await else {
            panic!("not a failure")
        };
        assert_eq!(kind, "JSONDecodeError");
        assert!(message.starts_with("Expecting property name"), "{message}");
        assert_eq!(traceback, ["function.py:6 in eval", "helper.py:3 in go"]);
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_and_logging_become_records() {
    let bed = Bed::new().await;
    let body = "
import logging, os, sys
print('one')
print('two', file=sys.stderr)
os.write(1, b'raw \\xff\\n')
logging.getLogger('mine').error('bad %s', 'thing')
logging.info('quiet')
print('no end', end='')
if input_data: raise ValueError('x')";
    for isolation in [Isolation::Process, Isolation::Instance] {
        let mut policy = bed.policy("talker", &policy_of(body));
        policy.isolation = isolation;
        let outcome = bed.run(&policy, json!(0)).await.unwrap();
        let failure = bed.run(&policy, json!(1)).await.unwrap_err();
        for logs in [outcome.logs, failure.logs] {
            let mut got: Vec<_> =
                logs.iter().map(|r| (r.source.as_str(), r.level, r.message.as_str())).collect();
            got.sort_by_key(|(source, _, message)| (source.to_string(), message.to_string()));
            assert_eq!(
                got,
                [
                    ("mine", LogLevel::Error, "bad thing"),
                    ("root", LogLevel::Info, "quiet"),
                    ("stderr", LogLevel::Warning, "two"),
                    ("stdout", LogLevel::Info, "no end"),
                    ("stdout", LogLevel::Info, "one"),
                    ("stdout", LogLevel::Info, "raw \u{fffd}"),
                ]
            );
        }
    }
    assert_eq!(bed.host.logged.lock().unwrap().len(), 24);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn management_sends_back_what_it_changed() {
    let source = policy_of("return parameters")
        + "    def management(self, action, data):\n        \
           if action == 'set': self.parameters.update(data)\n        \
           if action == 'settings': self.settings = data\n        return {'did': action}\n";
    let bed = Bed::new().await;
    let policy = bed.policy("managed", &source);
    let command = |action: &str| Operation::Management {
        settings: raw(json!({"a": 1})),
        parameters: raw(json!({"b": 2})),
        action: action.to_owned(),
        data: raw(json!({"c": 3})),
    };
    let text = |raw: Option<Box<serde_json::value::RawValue>>| raw.map(|raw| raw.get().to_owned());
    let outcome = bed.runtime.run(&policy, command("set")).await.unwrap();
    assert_eq!(value(&outcome), json!({"did": "set"}));
    assert_eq!(text(outcome.settings), None);
    assert_eq!(text(outcome.parameters).unwrap(), r#"{"b":2,"c":3}"#);
    let outcome = bed.runtime.run(&policy, command("settings")).await.unwrap();
    assert_eq!(text(outcome.settings).unwrap(), r#"{"c":3}"#);
    assert_eq!(text(outcome.parameters), None);
    let outcome = bed.runtime.run(&policy, command("look")).await.unwrap();
    assert!(outcome.settings.is_none() && outcome.parameters.is_none());
    let without = bed.policy("without", WELL_BEHAVED);
    assert_eq!(bed.runtime.run(&without, command("x")).await.unwrap_err().fault, Fault::NoManagement);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_with_threads_gets_a_process_of_its_own() {
    let source = "import threading, time, queue\nq = queue.Queue()\nn = 0\n\
                  threading.Thread(target=lambda: [q.put(i) or time.sleep(0.01) for i in iter(int, 1)], daemon=True).start()\n"
        .to_owned()
        + &policy_of("global n\nn += 1\nimport os\nif input_data: os._exit(5)\nreturn [q.get(timeout=5), n]");
    for namespaces in [true, false] {
        let bed = Bed::with(|config| config.namespaces = namespaces).await;
        let policy = bed.policy("threads", &source);
        for _ in 0..3 {
            assert_eq!(bed.value(&policy, json!(0)).await, json!([0, 1]));
            assert_eq!(
                bed.fault(&policy, json!(1)).await,
                Fault::Crashed { how: "exited with code 5".to_owned() }
            );
        }
        bed.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_numbers_differ_between_runs() {
    let bed = Bed::new().await;
    let source = "import random\n".to_owned() + &policy_of("return random.random()");
    let policy = bed.policy("random", &source);
    let first = bed.value(&policy, json!(0)).await;
    assert_ne!(first, bed.value(&policy, json!(0)).await);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subprocess_works_where_namespaces_do() {
    let bed = Bed::new().await;
    let source = policy_of(
        "import subprocess\nreturn subprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout",
    );
    let policy = bed.policy("sub", &source);
    if bed.runtime.sandbox_report().run_namespaces {
        assert_eq!(bed.value(&policy, json!(0)).await, "hi\n");
    } else {
        assert!(matches!(bed.fault(&policy, json!(0)).await, Fault::Failed { .. }));
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_all_get_their_own_answer() {
    let bed = Bed::with(|config| config.max_runs = 8).await;
    let policy = bed.policy("echo", &policy_of("return input_data"));
    let mut tasks = Vec::new();
    for number in 0..300 {
        let (runtime, policy) = (bed.runtime.clone(), policy.clone());
        tasks.push(tokio::spawn(async move { (number, runtime.run(&policy, eval(json!(number))).await) }));
    }
    for task in tasks {
        let (number, outcome) = task.await.unwrap();
        assert_eq!(value(&outcome.unwrap()), json!(number));
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_busy() {
    let bed = Bed::with(|config| (config.max_runs, config.queue) = (1, 1)).await;
    let policy = bed.policy("slow", &policy_of("import time\ntime.sleep(0.5)\nreturn 1"));
    let (a, b, c) =
        tokio::join!(bed.run(&policy, json!(0)), bed.run(&policy, json!(0)), bed.run(&policy, json!(0)));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(c.unwrap_err().fault, Fault::Busy { retry_after: Duration::from_secs(1) });
    bed.close().await;
}
