//! `POST /executor/local/execute_policy`: what callers send, what policies get, what comes back.

use crate::support::{SAMPLE, TestApp, http, policy, policy_source, refusal, wait_for};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_request_gets_the_documented_answer() {
    let app = TestApp::start();
    let mut record: Value =
        policy("ip_allowlist", &std::fs::read_to_string(format!("{SAMPLE}/code/function.py")).unwrap());
    record["release_tag"] = json!("beta");
    record["policy_parameters"] = json!({"local_allowlist": ["127.0.0.1", "192.168.0.1"]});
    app.register_record(record).await;
    let body = r#"{
    "policy_rule_uri": "ip_allowlist:1.0-beta",
    "input_data": {
      "ip": "10.0.0.1"
    },
    "parameters": {
      "local_allowlist": ["10.0.0.1"]
    }
  }"#;
    let url = format!("{}/executor/local/execute_policy", app.url());
    let post = http().post(url).header("Content-Type", "application/json").body(body);
    let response = post.send().await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    let reply: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let data = json!({"allowed": true, "reason": "allowed", "input_data": {"ip": "10.0.0.1"}});
    assert_eq!(reply, json!({"success": true, "data": data}));
    // The caller's list was for that run alone.
    assert_eq!(app.result("ip_allowlist:1.0-beta", json!({"ip": "10.0.0.1"})).await["allowed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_replace_values_key_by_key() {
    let app = TestApp::start();
    let body = "return [self.rule_id, self.settings, self.parameters, parameters, input_data]";
    let mut record = policy("echo", &policy_source(body));
    record["policy_settings"] = json!({"a": {"x": 1}, "b": 2});
    record["policy_parameters"] = json!({"p": [1, 2], "q": null});
    let uri = app.register_record(record).await;
    let run = json!({
        "policy_rule_uri": uri, "input_data": null,
        "settings": {"a": {"y": 2}, "c": 3}, "parameters": {"p": [], "r": true},
    });
    let (_, reply) = app.json("POST", "/executor/local/execute_policy", &run).await;
    let parameters = json!({"p": [], "q": null, "r": true});
    let expected = json!([uri, {"a": {"y": 2}, "b": 2, "c": 3}, parameters, parameters, null]);
    assert_eq!(reply["data"], expected, "{reply}");
    let own = app.result(&uri, json!([])).await;
    assert_eq!(own[1], json!({"a": {"x": 1}, "b": 2}));
    assert_eq!(own[3], json!({"p": [1, 2], "q": null}));
    // Numbers keep every digit also where they are merged.
    let text = format!(
        r#"{{"policy_rule_uri":"{uri}","input_data":0,"parameters":{{"p":9007199254740993,"q":0.1,"r":1e-7}}}}"#
    );
    let (_, reply) = app.send("POST", "/executor/local/execute_policy", text).await;
    assert_eq!(reply["data"][3], json!({"p": 9_007_199_254_740_993_u64, "q": 0.1, "r": 1e-7}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_schemas_is_refused_with_pointers() {
    let app = TestApp::start();
    let mut record = policy("checked", &policy_source("return input_data['give']"));
    record["policy_input_schema"] = json!({"give": {"type": "any", "required": true}, "n": {"type": "array", "items": {"type": "number"}}});
    record["policy_output_schema"] = json!({"ok": {"type": "boolean", "required": true}});
    record["policy_settings_schema"] = json!({"url": {"type": "string", "pattern": "^http"}});
    record["policy_parameters_schema"] = json!({"level": {"type": "number", "max": 9}});
    let uri = app.register_record(record).await;
    let ok = json!({"give": {"ok": true}});
    let run = |input: &Value, more: Value| {
        let mut request = json!({"policy_rule_uri": uri, "input_data": input});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    for (request, status, code, pointer) in [
        (run(&json!({"give": 1, "n": [1, "2"]}), json!({})), 422, "input_invalid", "/n/1"),
        (run(&ok, json!({"settings": {"url": "ftp:"}})), 422, "settings_invalid", "/url"),
        (run(&ok, json!({"parameters": {"level": 10}})), 422, "parameters_invalid", "/level"),
        (run(&json!({"give": {"ok": 1}}), json!({})), 502, "policy_output_invalid", "/ok"),
    ] {
        let reply = app.json("POST", "/executor/local/execute_policy", &request).await;
        assert_eq!(refusal(&reply), (status, code), "{}", reply.1);
        let faults = &reply.1["error"]["details"]["faults"];
        assert_eq!(faults[0]["pointer"], pointer, "{faults}");
        assert_eq!(faults.as_array().unwrap().len(), 1, "{faults}");
    }
    let missing = app.run(&uri, json!({})).await;
    assert_eq!(refusal(&missing), (422, "input_invalid"));
    assert!(missing.1["message"].as_str().unwrap().contains("give"), "{}", missing.1);
    assert_eq!(refusal(&app.run(&uri, json!({"give": {}})).await), (502, "policy_output_invalid"));
    assert_eq!(app.result(&uri, ok.clone()).await, json!({"ok": true}));
    // What a request itself must hold.
    for (request, code) in [
        (json!({"policy_rule_uri": uri}), "invalid_field"),
        (json!({"policy_rule_uri": uri, "input_data": 1, "parameters": []}), "invalid_field"),
        (json!({"policy_rule_uri": uri, "input": 1, "input_data": 1}), "unknown_field"),
        (json!([]), "invalid_field"),
    ] {
        let reply = app.json("POST", "/executor/local/execute_policy", &request).await;
        assert_eq!(refusal(&reply), (400, code), "{request}: {}", reply.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_prints_and_logs_is_kept_and_returned_on_request() {
    let app = TestApp::start();
    let body = r#"
import logging, sys
print("on stdout", "é→\U0001f600")
print("on stderr", file=sys.stderr)
log = logging.getLogger("my.part")
log.debug("not shown at the default level")
log.info("worth %s", "knowing")
log.warning("careful")
logging.error("wrong")
log.setLevel(logging.DEBUG)
log.debug("asked for")
if input_data:
    raise ValueError("with logs")
print("no line end", end="")
return 1"#;
    let uri = app.add("talker", body).await;
    let request = json!({"policy_rule_uri": uri, "input_data": false});
    let (_, reply) = app.json("POST", "/executor/local/execute_policy?logs=true", &request).await;
    let mut lines: Vec<(&str, &str, &str)> = Vec::new();
    for log in reply["logs"].as_array().unwrap() {
        let text = |field: &str| log[field].as_str().unwrap();
        assert!(text("time").ends_with('Z'), "{log}");
        lines.push((text("level"), text("source"), text("message")));
    }
    lines.sort_unstable();
    let mut expected = [
        ("info", "stdout", "on stdout é→😀"),
        ("warning", "stderr", "on stderr"),
        ("info", "my.part", "worth knowing"),
        ("warning", "my.part", "careful"),
        ("error", "root", "wrong"),
        ("debug", "my.part", "asked for"),
        ("info", "stdout", "no line end"),
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    let (_, reply) = app.run(&uri, json!(false)).await;
    assert!(reply.get("logs").is_none(), "{reply}");
    let (_, reply) = app.run(&uri, json!(true)).await;
    let told = reply["error"]["details"]["logs"].to_string();
    assert!(told.contains("worth knowing") && told.contains("on stdout"), "{reply}");
    let log = app.log();
    let line = log.lines().find(|line| line.contains("careful")).expect(&log);
    assert!(line.contains("talker:1.0-test") && line.contains("WARN"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_comes_back_with_the_policys_own_frames_and_no_path_of_the_server() {
    let app = TestApp::start();
    let body = "
import helper
if input_data == 'nested':
    helper.fail({'a': 1})
if input_data == 'file':
    open(__file__ + '.missing')
if input_data == 'own path':
    raise RuntimeError(__file__)
if input_data == 'chain':
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise KeyError('ü\\n<b>') from error
return sorted([1, 'a'])";
    let helper = "def fail(values):\n    return [values[key] for key in ('b',)]\n";
    let source = policy_source(body);
    let uri =
        app.register_archive("raiser", &[("code/function.py", &source), ("code/helper.py", helper)]).await;
    for (input, kind, frames, message) in [
        ("nested", "KeyError", 3, "'b'"),
        ("file", "FileNotFoundError", 1, "function.py.missing"),
        ("own path", "RuntimeError", 1, "function.py"),
        ("chain", "KeyError", 1, "ü"),
        ("sorted", "TypeError", 1, "not supported"),
    ] {
        let reply = app.run(&uri, json!(input)).await;
        assert_eq!(refusal(&reply), (502, "policy_failed"), "{}", reply.1);
        let details = &reply.1["error"]["details"];
        assert_eq!(details["type"], kind);
        assert!(details["message"].as_str().unwrap().contains(message), "{details}");
        let traceback = details["traceback"].as_array().unwrap();
        // Python 3.12 and later run a list's comprehension in the frame of its function.
        assert!((frames - 1..=frames).contains(&traceback.len()) && !traceback.is_empty(), "{traceback:?}");
        assert!(traceback[0].as_str().unwrap().starts_with("function.py:"), "{traceback:?}");
        assert!(traceback[0].as_str().unwrap().ends_with(" in eval"), "{traceback:?}");
        if input == "nested" {
            assert_eq!(traceback[1], "helper.py:2 in fail");
        }
        no_server_path(&app, &reply.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_cannot_be_imported_is_told_apart() {
    let app = TestApp::start();
    let valid = policy_source("return 1");
    for (name, files, kind, frame) in [
        (
            "no-module",
            vec![("code/function.py", format!("import not_there_at_all\n{valid}"))],
            "ModuleNotFoundError",
            "function.py:1",
        ),
        (
            "broken-helper",
            vec![
                ("code/function.py", format!("import helper\n{valid}")),
                ("code/helper.py", "def f(:\n".to_owned()),
            ],
            "SyntaxError",
            "function.py:1",
        ),
        (
            "raises",
            vec![("code/function.py", format!("{valid}\nraise OSError(__file__)\n"))],
            "OSError",
            "function.py:",
        ),
        ("exits", vec![("code/function.py", format!("{valid}\nimport os\nos._exit(0)\n"))], "Exited", ""),
        ("lost", vec![("code/function.py", format!("{valid}\ndel AIOSv1PolicyRule\n"))], "ClassMissing", ""),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let uri = app.register_archive(name, &files).await;
        for _ in 0..2 {
            let reply = app.run(&uri, json!(null)).await;
            assert_eq!(refusal(&reply), (502, "policy_load_failed"), "{name}: {}", reply.1);
            let details = &reply.1["error"]["details"];
            assert_eq!(details["type"], kind, "{name}: {details}");
            if !frame.is_empty() {
                let first = details["traceback"][0].as_str().unwrap_or_default();
                assert!(first.starts_with(frame), "{name}: {details}");
            }
            no_server_path(&app, &reply.1);
        }
    }
}

fn no_server_path(app: &TestApp, reply: &Value) {
    let text = reply.to_string();
    let data = app.data_dir().display().to_string();
    for path in [data.as_str(), "worker.py", "/usr/", "/tmp/", "/policy/", "site-packages", "importlib"] {
        assert!(!text.contains(path), "`{path}` in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_arrive_as_they_were_sent() {
    let app = TestApp::start();
    let uri = app.add("echo", "return input_data").await;
    let url = format!("{}/executor/local/execute_policy", app.url());
    let integer = "9".repeat(200);
    let inner = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    for input in [
        integer.as_str(),
        "-12345678901234567890123",
        "0.1",
        "1.0",
        "1e308",
        "5e-324",
        "-0.0",
        "123456789.12345679",
        "null",
        "true",
        "\"\"",
        "[]",
        "{}",
        r#""é→😀\u0000\u2028\"\\""#,
        r#"{"":1,"a.b":{"$x":[null]}}"#,
        &inner,
    ] {
        let body = format!(r#"{{"policy_rule_uri":"{uri}","input_data":{input}}}"#);
        let reply = http().post(&url).body(body).send().await.unwrap().text().await.unwrap();
        let Some(data) = reply.strip_prefix(r#"{"success":true,"data":"#) else { panic!("{reply}") };
        let data = data.strip_suffix('}').unwrap();
        if input.contains("\\u") {
            let (sent, got): (Value, Value) =
                (serde_json::from_str(input).unwrap(), serde_json::from_str(data).unwrap());
            assert_eq!(sent, got);
        } else if input == "1e308" {
            assert_eq!(data, "1e+308");
        } else {
            assert_eq!(data, input);
        }
    }
    let uri = app.add("python", "return eval(input_data)").await;
    for (python, expected) in [
        ("(1, (2,))", json!([1, [2]])),
        ("{1: 'a', None: 2, True: 3}", json!({"1": 3, "null": 2})),
        ("None", Value::Null),
        ("'x' * 3", json!("xxx")),
        ("__import__('collections').OrderedDict(z=1, a=2)", json!({"z": 1, "a": 2})),
    ] {
        assert_eq!(app.result(&uri, json!(python)).await, expected, "{python}");
    }
    for (python, place) in [
        ("{'a': [1, {2}]}", "$.a[1]"),
        ("float('nan')", "nan"),
        ("[float('inf')]", "$[0]"),
        ("object()", "object"),
        ("b'bytes'", "bytes"),
        ("(i for i in [1])", "generator"),
        ("'\\ud800'", "surrogate"),
        ("{(1, 2): 3}", "key"),
    ] {
        let reply = app.run(&uri, json!(python)).await;
        assert_eq!(refusal(&reply), (502, "policy_output_invalid"), "{python}: {}", reply.1);
        assert!(reply.1["message"].as_str().unwrap().contains(place), "{python}: {}", reply.1);
    }
}

/// Keeps a count wherever a policy could: in the module, its class, itself, another module, the environment, files.
const COUNTING: &str = r#"
import os, sys
seen = []


class AIOSv1PolicyRule:
    kept = []

    def __init__(self, rule_id, settings, parameters):
        self.own = 0
        self.settings, self.parameters = settings, parameters

    def eval(self, parameters, input_data, context):
        self.own += 1
        seen.append(1)
        self.kept.append(1)
        parameters["n"] = parameters.get("n", 0) + 1
        self.settings["n"] = self.settings.get("n", 0) + 1
        here = [len(seen), len(self.kept), self.own, parameters["n"], self.settings["n"]]
        os.environ["COUNT"] = str(int(os.environ.get("COUNT", 0)) + 1)
        sys.count = getattr(sys, "count", 0) + 1
        with open(os.path.join(os.environ["TMPDIR"], "count"), "a+") as file:
            file.write("x")
            file.seek(0)
            files = len(file.read())
        return {"module": here, "process": [int(os.environ["COUNT"]), sys.count], "files": files}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_sees_nothing_of_the_ones_before() {
    let app = TestApp::start();
    let process = app.register_limited("process", COUNTING, json!({"isolation": "process"})).await;
    let instance = app.register_limited("instance", COUNTING, json!({"isolation": "instance"})).await;
    for _ in 0..20 {
        let expected = json!({"module": [1, 1, 1, 1, 1], "process": [1, 1], "files": 1});
        assert_eq!(app.result(&process, json!(0)).await, expected);
        let result = app.result(&instance, json!(0)).await;
        assert_eq!((&result["module"], &result["files"]), (&expected["module"], &expected["files"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404() {
    let app = TestApp::start();
    let uri = app.add("there", "return 1").await;
    assert_eq!(refusal(&app.run("nowhere:1-x", json!(1)).await), (404, "policy_not_found"));
    assert_eq!(refusal(&app.run_on("nowhere", &uri, json!(1)).await), (404, "executor_not_found"));
    assert_eq!(refusal(&app.manage("nowhere", &uri, "a", json!({})).await), (404, "executor_not_found"));
    assert_eq!(app.result(&uri, json!(1)).await, 1);
    let (status, _) = app.send("DELETE", &format!("/policy/{uri}"), "").await;
    assert_eq!(status, 200);
    assert_eq!(refusal(&app.run(&uri, json!(1)).await), (404, "policy_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_stopped() {
    let app = TestApp::builder().setting("max_timeout_ms", 1500).start();
    let source = policy_source("import time\ntime.sleep(input_data)\nreturn 'awake'");
    let own = app.register_limited("own", &source, json!({"timeout_ms": 400})).await;
    let capped = app.register_limited("capped", &source, json!({"timeout_ms": 60000})).await;
    for (uri, shown) in [(&own, "400 ms"), (&capped, "1500 ms")] {
        assert_eq!(app.result(uri, json!(0.05)).await, "awake");
        let started = Instant::now();
        let reply = app.run(uri, json!(30)).await;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert_eq!(refusal(&reply), (504, "policy_timeout"), "{}", reply.1);
        assert!(reply.1["message"].as_str().unwrap().contains(shown), "{}", reply.1);
        assert_eq!(reply.1["error"]["details"]["limit"], "timeout");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_beyond_the_queue_are_told_to_come_back() {
    let app = TestApp::builder().setting("max_runs", 1).setting("run_queue", 1).start();
    let uri = app.add("slow", "import time\ntime.sleep(2)\nreturn 1").await;
    let request = json!({"policy_rule_uri": uri, "input_data": 0});
    let calls = (0..6).map(|_| app.respond("/executor/local/execute_policy", &request));
    let replies = futures::future::join_all(calls).await;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    for reply in replies.into_iter().filter(|reply| reply.status() != 200) {
        assert_eq!(reply.status(), 429);
        assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
        let reply: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
        assert_eq!(reply["error"]["code"], "overloaded");
    }
    assert_eq!(app.result(&uri, json!(0)).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_caller_goes_away_is_ended() {
    let app = TestApp::builder().setting("max_runs", 1).start();
    let slow =
        app.add("slow", "import time\ncontext['on'] = True\ntime.sleep(30)\ncontext['late'] = 1").await;
    let quick = app.add("quick", "return 1").await;
    let request = json!({"policy_rule_uri": slow, "input_data": 0});
    let abandoned = http()
        .post(format!("{}/executor/local/execute_policy", app.url()))
        .timeout(Duration::from_millis(1500))
        .body(request.to_string())
        .send()
        .await;
    assert!(abandoned.unwrap_err().is_timeout());
    let (_, context) = app.json("POST", &format!("/policy/{slow}/context"), &json!({"op": "items"})).await;
    assert_eq!(context["data"], json!({"on": true}), "it had not begun: {context}");
    // There is one place to run in.
    let started = Instant::now();
    assert_eq!(app.result(&quick, json!(0)).await, 1);
    assert!(started.elapsed() < Duration::from_secs(10), "it waited {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_policies_run_side_by_side() {
    let app = TestApp::start();
    let mut uris = Vec::new();
    for number in 0..12 {
        uris.push(
            app.add(&format!("p{number}"), &format!("return [{number}, input_data, self.rule_id]")).await,
        );
    }
    let runs = (0..240_usize).map(|run| {
        let (app, uri, number) = (&app, &uris[run % 12], run % 12);
        async move { assert_eq!(app.result(uri, json!(run)).await, json!([number, run, uri])) }
    });
    futures::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_beside_function_py_are_the_policys_own() {
    let app = TestApp::start();
    let source = policy_source("import data\nfrom part.inner import value\nreturn [value(), data.VALUE]");
    for name in ["one", "two"] {
        let inner = format!("from . import PREFIX\n\ndef value():\n    return PREFIX + '{name}'\n");
        let files = [
            ("code/function.py", source.as_str()),
            ("code/data.py", &format!("VALUE = '{name}'")),
            ("code/part/__init__.py", "PREFIX = 'of '"),
            ("code/part/inner.py", &inner),
        ];
        app.register_archive(name, &files).await;
    }
    for name in ["one", "two", "one"] {
        let expected = json!([format!("of {name}"), name]);
        assert_eq!(app.result(&format!("{name}:1.0-test"), json!(0)).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_starts_threads_on_import_is_stateless_too() {
    let app = TestApp::builder().setting("idle_seconds", 1).start();
    let source = format!(
        "import queue, threading\ntodo, done = queue.Queue(), queue.Queue()\nruns = []\n\n\
         def work():\n    while True:\n        done.put(todo.get() * 2)\n\n\
         threading.Thread(target=work, daemon=True).start()\n\n{}",
        policy_source("todo.put(input_data)\nruns.append(1)\nreturn [done.get(timeout=10), len(runs)]")
    );
    let uri = app.register_record(policy("threads", &source)).await;
    for number in 0..5 {
        assert_eq!(app.result(&uri, json!(number)).await, json!([number * 2, 1]));
    }
    let runs = (0..8).map(|number| app.result(&uri, json!(number)));
    let results = futures::future::join_all(runs).await;
    assert_eq!(results, (0..8).map(|number| json!([number * 2, 1])).collect::<Vec<_>>());
    assert!(wait_for(|| (app.processes() <= 1).then_some(())).is_some(), "{} are left", app.processes());
}
