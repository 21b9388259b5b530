//! Jobs (Type 3), as their submitters see them.

use crate::support::{Database, PATIENCE, TestApp, policy, policy_source, refusal};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

impl TestApp {
    /// Submits a job that must be accepted; returns its id.
    pub(crate) async fn submit(&self, executor: &str, job: Value) -> String {
        let (status, reply) = self.json("POST", &format!("/jobs/submit/{executor}"), &job).await;
        assert_eq!((status, &reply["success"]), (201, &json!(true)), "{reply}");
        assert_eq!(reply["job_id"], reply["data"]["job_id"]);
        reply["job_id"].as_str().unwrap().to_owned()
    }

    /// A job's record, when it has ended.
    pub(crate) async fn ended(&self, job_id: &str) -> Value {
        let (status, mut reply) = self.get(&format!("/jobs/{job_id}?wait=50s")).await;
        assert_eq!(status, 200, "{reply}");
        let job = reply["data"].take();
        assert!(job["finished_at"].is_string(), "it has not ended: {job}");
        job
    }

    /// Waits until a job is in this state; returns its record.
    pub(crate) async fn job_is(&self, job_id: &str, status: &str) -> Value {
        self.job_until(job_id, |job| job["job_status"] == status).await
    }

    /// A job's record, once it is as expected.
    pub(crate) async fn job_until(&self, job_id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let job = self.get(&format!("/jobs/{job_id}")).await.1["data"].take();
            if holds(&job) {
                return job;
            }
            assert!(Instant::now() < end, "it is not as expected: {job}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a job logged: attempt and message.
    async fn job_logs(&self, job_id: &str) -> Vec<(u64, String)> {
        let (status, reply) = self.get(&format!("/jobs/{job_id}/logs")).await;
        assert_eq!(status, 200, "{reply}");
        let records = reply["data"].as_array().unwrap().iter();
        records
            .map(|log| (log["attempt"].as_u64().unwrap(), log["message"].as_str().unwrap().to_owned()))
            .collect()
    }
}

/// A job of a policy, with this input.
fn job(uri: &str, inputs: Value) -> Value {
    json!({"policy_rule_uri": uri, "inputs": inputs})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_the_spec() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let executor = TestApp::executor("executor-001", &app).start();
        let labels = json!({"$set": {"metadata.node_labels": {"zone": "us-central1-a"}}});
        assert_eq!(app.json("PUT", "/executor/executor-001", &labels).await.0, 200);
        let card = json!({"policy_parameters": {"local_allowlist": []}});
        let mut record = policy(
            "ip_allowlist",
            &policy_source("return {'allowed': input_data['ip'] in parameters['local_allowlist']}"),
        );
        record["release_tag"] = json!("beta");
        record["policy_parameters"] = card["policy_parameters"].clone();
        app.register_record(record).await;
        let request = r#"{
    "name": "run-ip-check-job",
    "policy_rule_uri": "ip_allowlist:1.0-beta",
    "policy_rule_parameters": {
      "local_allowlist": ["192.168.1.1"]
    },
    "node_selector": {
      "zone": "us-central1-a"
    },
    "inputs": {
      "ip": "192.168.1.1"
    }
  }"#;
        let (status, reply) = app.send("POST", "/jobs/submit/executor-001", request).await;
        assert_eq!((status, &reply["success"]), (201, &json!(true)), "{reply}");
        let id = reply["job_id"].as_str().unwrap();
        let job = app.ended(id).await;
        assert_eq!(
            (&job["job_status"], &job["job_output_data"]),
            (&json!("completed"), &json!({"allowed": true})),
            "{job}"
        );
        assert_eq!(
            (&job["executor_id"], &job["attempts"], &job["name"]),
            (&json!("executor-001"), &json!(1), &json!("run-ip-check-job"))
        );
        assert!(job["node_id"].is_string(), "{job}");
        let query = r#"{
    "policy_rule_uri": "ip_allowlist:1.0-beta",
    "inputs.ip": "192.168.1.1"
  }"#;
        let (_, found) = app.send("POST", "/jobs/query", query).await;
        assert_eq!(found["data"], json!([job]), "{found}");
        let other = json!({"policy_rule_uri": "ip_allowlist:1.0-beta", "inputs.ip": "10.0.0.1"});
        assert_eq!(app.json("POST", "/jobs/query", &other).await.1["data"], json!([]));
        for path in ["/jobs/submit/", "/jobs/submit"] {
            let request = json!({"policy_rule_uri": "ip_allowlist:1.0-beta", "inputs": {"ip": "10.0.0.1"}});
            let (status, reply) = app.json("POST", path, &request).await;
            assert_eq!(status, 201, "{reply}");
            let job = app.ended(reply["job_id"].as_str().unwrap()).await;
            assert_eq!(job["job_output_data"], json!({"allowed": false}), "{job}");
            assert_eq!(job["name"], "ip_allowlist:1.0-beta");
        }
        drop(executor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_with_its_own_values_and_is_found_by_any_field() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut record = policy("values", &policy_source("return [self.settings, parameters, input_data]"));
        record["policy_settings"] = json!({"a": 1, "b": 1});
        record["policy_parameters"] = json!({"p": 1, "q": 1});
        let uri = app.register_record(record).await;
        let request = json!({
            "policy_rule_uri": uri, "inputs": {"deep": [{"n": 12345678901234567890_u64}]}, "name": "mine",
            "policy_rule_settings": {"b": 2}, "policy_rule_parameters": {"q": 2}, "timeout": "5s",
        });
        let id = app.submit("local", request).await;
        let job = app.ended(&id).await;
        let output = json!([{"a": 1, "b": 2}, {"p": 1, "q": 2}, {"deep": [{"n": 12345678901234567890_u64}]}]);
        assert_eq!((&job["job_status"], &job["job_output_data"]), (&json!("completed"), &output), "{job}");
        assert_eq!(
            (&job["timeout"], &job["backoff_limit"], &job["error"]),
            (&json!(5.0), &json!(0), &Value::Null)
        );
        let other = app.submit("local", job_of(&uri)).await;
        app.ended(&other).await;
        for filter in [
            json!({"job_id": id}),
            json!({"name": "mine"}),
            json!({"policy_rule_settings.b": 2, "job_status": "completed"}),
            json!({"timeout": 5}),
            json!({"job_output_data.1.q": 2}),
            json!({"executor_id": "local", "inputs.deep.n": {"$exists": true}}),
        ] {
            let (_, found) = app.json("POST", "/jobs/query?fields=job_id", &filter).await;
            assert_eq!(found["data"], json!([{"job_id": id}]), "{filter}");
        }
        let (_, found) =
            app.json("POST", "/jobs/query?sort=-created_at&limit=1&fields=job_id", &json!({})).await;
        assert_eq!((&found["data"], &found["has_more"]), (&json!([{"job_id": other}]), &json!(true)));
    }
}

fn job_of(uri: &str) -> Value {
    job(uri, json!({}))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let mut record = policy("strict", &policy_source("return 1"));
        record["policy_input_schema"] = json!({"ip": {"type": "string", "required": true}});
        record["policy_parameters_schema"] = json!({"limit": {"type": "number"}});
        record["policy_settings_schema"] = json!({"mode": {"type": "string"}});
        let uri = app.register_record(record).await;
        let good = json!({"ip": "::1"});
        let with = |name: &str, value: Value| {
            let mut job = job(&uri, good.clone());
            job[name] = value;
            job
        };
        for (executor, job, expected) in [
            ("nowhere", job(&uri, good.clone()), (404, "executor_not_found")),
            ("local", job("none:1-x", good.clone()), (404, "policy_not_found")),
            ("local", job(&uri, json!({"ip": 7})), (422, "input_invalid")),
            ("local", job(&uri, json!({})), (422, "input_invalid")),
            ("local", with("policy_rule_parameters", json!({"limit": "x"})), (422, "parameters_invalid")),
            ("local", with("policy_rule_settings", json!({"mode": 7})), (422, "settings_invalid")),
            ("local", with("timeout", json!(0)), (400, "invalid_field")),
            ("local", with("timeout", json!("soon")), (400, "invalid_field")),
            ("local", with("backoff_limit", json!(-1)), (400, "invalid_field")),
            ("local", with("name", json!("")), (400, "invalid_field")),
            ("local", with("inputs", json!("\0")), (400, "invalid_field")),
            ("local", with("policy_rule_parameters", json!({"x": "\0"})), (400, "invalid_field")),
            ("local", with("input", json!(1)), (400, "unknown_field")),
            ("local", json!({"policy_rule_uri": uri}), (400, "invalid_field")),
        ] {
            let reply = app.json("POST", &format!("/jobs/submit/{executor}"), &job).await;
            assert_eq!(refusal(&reply), expected, "{job}: {}", reply.1);
        }
        assert_eq!(app.json("POST", "/jobs/query", &json!({})).await.1["data"], json!([]), "none was kept");
        for path in ["/jobs/none", "/jobs/none?wait=1s", "/jobs/none/logs", "/jobs/%C3%A4"] {
            assert_eq!(refusal(&app.get(path).await), (404, "job_not_found"), "{path}");
        }
        assert_eq!(refusal(&app.get("/jobs/none?wait=x").await), (400, "invalid_parameter"));
        assert_eq!(refusal(&app.send("DELETE", "/jobs/none", "").await), (404, "job_not_found"));
    }
}

/// Each fault of a run ends its job with the code that a caller of the policy gets.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_fail_like_runs() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let source = policy_source(
            "import os\nprint('before')\nwhat = input_data\nif what == 'raise': raise LookupError('asked to')\nif what == 'exit': os._exit(3)\nif what == 'sleep':\n    import time\n    time.sleep(60)\nif what == 'memory': return len(bytearray(1 << 30))\nif what == 'large': return 'x' * (50 << 20)\nif what == 'nul': return '\\0'\nif what == 'set': return {1}\nreturn None",
        );
        let uri =
            app.register_limited("faulty", &source, json!({"memory_mb": 64, "timeout_ms": 20000})).await;
        for (what, code) in [
            ("raise", "policy_failed"),
            ("exit", "policy_crashed"),
            ("memory", "policy_limit_exceeded"),
            ("nul", "policy_output_invalid"),
            ("set", "policy_output_invalid"),
        ] {
            let id = app.submit("local", job(&uri, json!(what))).await;
            let job = app.ended(&id).await;
            assert_eq!(
                (&job["job_status"], &job["error"]["code"]),
                (&json!("failed"), &json!(code)),
                "{job}"
            );
            assert_eq!((&job["job_output_data"], &job["attempts"]), (&Value::Null, &json!(1)));
            assert_eq!(app.job_logs(&id).await, [(1, "before".to_owned())], "{what}");
        }
        let job_with_time = json!({"policy_rule_uri": uri, "inputs": "sleep", "timeout": "300ms"});
        let slow = app.ended(&app.submit("local", job_with_time).await).await;
        assert_eq!(slow["error"]["code"], "policy_timeout", "{slow}");
        assert_eq!(slow["error"]["details"], json!({"limit": "timeout"}), "{slow}");
        let none = app.ended(&app.submit("local", job(&uri, json!("none"))).await).await;
        assert_eq!((&none["job_status"], &none["job_output_data"]), (&json!("completed"), &Value::Null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_over_the_limit_fails_its_job_only() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let executor = TestApp::executor("e1", &app).start();
        let uri = app.add("large", "return 'x' * (input_data << 20)").await;
        for on in ["local", "e1"] {
            let large = app.submit(on, job(&uri, json!(50))).await;
            let fits = app.submit(on, job(&uri, json!(15))).await;
            let large = app.ended(&large).await;
            assert_eq!(large["error"]["code"], "policy_limit_exceeded", "{large}");
            assert_eq!(large["error"]["details"]["limit"], "result");
            let fits = app.ended(&fits).await;
            assert_eq!(fits["job_output_data"].as_str().map(str::len), Some(15 << 20), "{}", fits["error"]);
        }
        drop(executor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_are_repeated() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let uri = app
            .add(
                "third",
                "n = context.incr('n')\nprint('attempt', n)\nif n < 3: raise ValueError(n)\nreturn n",
            )
            .await;
        let request = json!({"policy_rule_uri": uri, "inputs": 0, "backoff_limit": 2});
        let id = app.submit("local", request).await;
        let waiting = app.job_is(&id, "pending").await;
        assert_eq!(waiting["error"]["code"], "policy_failed", "{waiting}");
        let done = app.ended(&id).await;
        assert_eq!(
            (&done["job_status"], &done["attempts"], &done["error"]),
            (&json!("completed"), &json!(3), &Value::Null)
        );
        assert_eq!(done["job_output_data"], 3);
        let expected: Vec<(u64, String)> = (1..=3).map(|n| (n, format!("attempt {n}"))).collect();
        assert_eq!(app.job_logs(&id).await, expected);
        let (_, second) = app.get(&format!("/jobs/{id}/logs?attempt=2")).await;
        assert_eq!((second["data"].as_array().unwrap().len(), &second["data"][0]["attempt"]), (1, &json!(2)));
        let (_, rest) = app.get(&format!("/jobs/{id}/logs?skip=2")).await;
        assert_eq!(rest["data"][0]["message"], "attempt 3");

        let never = app.add("never", "raise ValueError('never')").await;
        let id =
            app.submit("local", json!({"policy_rule_uri": never, "inputs": 0, "backoff_limit": 1})).await;
        let failed = app.ended(&id).await;
        assert_eq!((&failed["job_status"], &failed["attempts"]), (&json!("failed"), &json!(2)), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_job_or_the_time() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let uri = app.add("slow", "import time\ntime.sleep(input_data)\nreturn 1").await;
        let id = app.submit("local", job(&uri, json!(1.5))).await;
        let (_, early) = app.get(&format!("/jobs/{id}?wait=200ms")).await;
        assert_eq!(early["data"]["job_status"], "running", "{early}");
        let waiters = (0..5).map(|_| app.ended(&id));
        for job in futures::future::join_all(waiters).await {
            assert_eq!(job["job_status"], "completed");
        }
        assert_eq!(app.ended(&id).await["job_output_data"], 1);
    }
}

/// The log is there while the job still runs; cancelling ends its process at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_shows_its_log_and_is_cancelled() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).start();
        let executor = TestApp::executor("e1", &app).start();
        let uri = app
            .add("endless", "import time\nprint('began')\nwhile True:\n    print('on')\n    time.sleep(0.2)")
            .await;
        for on in ["local", "e1"] {
            let id = app.submit(on, job_of(&uri)).await;
            let end = Instant::now() + PATIENCE;
            while app.job_logs(&id).await.len() < 5 {
                assert!(Instant::now() < end, "no log appears");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(app.job_logs(&id).await[0], (1, "began".to_owned()));
            let (status, cancelled) = app.send("DELETE", &format!("/jobs/{id}"), "").await;
            assert_eq!((status, &cancelled["data"]["job_status"]), (200, &json!("cancelled")), "{cancelled}");
            assert_eq!(app.ended(&id).await, cancelled["data"]);
            let quiet = async {
                // A job that still runs logs five times a second.
                loop {
                    let before = app.job_logs(&id).await.len();
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    if app.job_logs(&id).await.len() == before {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, quiet).await.expect("it runs on");
            let again = app.send("DELETE", &format!("/jobs/{id}"), "").await;
            assert_eq!(refusal(&again), (409, "job_finished"));
            assert_eq!(again.1["error"]["details"]["job_status"], "cancelled");
        }
        drop(executor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_place_in_order_and_can_be_cancelled_meanwhile() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("max_jobs", 1).start();
        let uri = app.add("order", "import time\ntime.sleep(input_data)\nreturn context.incr('n')").await;
        let first = app.submit("local", job(&uri, json!(1))).await;
        let mut waiting = Vec::new();
        for _ in 0..4 {
            waiting.push(app.submit("local", job(&uri, json!(0))).await);
        }
        let cancelled = waiting.remove(1);
        assert_eq!(app.get(&format!("/jobs/{cancelled}")).await.1["data"]["job_status"], "pending");
        assert_eq!(app.send("DELETE", &format!("/jobs/{cancelled}"), "").await.0, 200);
        assert_eq!(app.ended(&first).await["job_output_data"], 1);
        for (n, id) in waiting.iter().enumerate() {
            assert_eq!(app.ended(id).await["job_output_data"], n + 2);
        }
        let job = app.ended(&cancelled).await;
        assert_eq!(
            (&job["job_status"], &job["attempts"], &job["started_at"]),
            (&json!("cancelled"), &json!(0), &Value::Null)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_deleted_while_its_job_waits() {
    for database in Database::each() {
        let app = TestApp::builder().database(database).setting("max_jobs", 1).start();
        let slow = app.add("slow", "import time\ntime.sleep(1)").await;
        let first = app.submit("local", job_of(&slow)).await;
        let gone = app.add("gone", "return 1").await;
        let here =
            app.submit("local", json!({"policy_rule_uri": gone, "inputs": 1, "backoff_limit": 3})).await;
        assert_eq!(app.send("DELETE", &format!("/policy/{gone}"), "").await.0, 200);
        app.ended(&first).await;
        let job = app.ended(&here).await;
        assert_eq!(
            (&job["job_status"], &job["error"]["code"]),
            (&json!("failed"), &json!("policy_not_found")),
            "{job}"
        );
        assert_eq!(job["attempts"], 1);
    }
}

/// What executors say of attempts counts for their own only: each may be in a cluster of somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn executors_have_no_say_in_jobs_of_others() {
    for database in Database::each() {
        let takes_nul = database.url().is_none();
        let app = TestApp::builder().database(database).start();
        for id in ["e1", "e2"] {
            let executor = json!({"executor_id": id, "executor_host_uri": "http://127.0.0.1:9"});
            assert_eq!(app.json("POST", "/executor", &executor).await.0, 200);
        }
        let uri = app.add("p", "return 1").await;
        let mut claimed = Vec::new();
        for id in ["e1", "e2"] {
            app.submit(id, job_of(&uri)).await;
            let runner = format!("runner-of-{id}");
            let renew = json!({"runner_id": runner, "lease_seconds": 600});
            assert_eq!(app.json("POST", &format!("/executor/{id}/jobs/renew"), &renew).await.0, 200);
            let claim = json!({"runner_id": runner, "node_id": "n", "places": 1});
            let (status, reply) = app.json("POST", &format!("/executor/{id}/jobs/claim"), &claim).await;
            assert_eq!(status, 200, "{reply}");
            claimed.push(reply["data"][0].clone());
        }
        let [first, second] = [&claimed[0], &claimed[1]]
            .map(|claimed| json!({"job_id": claimed["job"]["job_id"], "revision": claimed["revision"]}));
        let log = |held: &Value, attempt: u32, message: &str| {
            let record = json!({"time": "2026-01-01T00:00:00.000000Z", "level": "info", "source": "log", "message": message});
            json!({"job_id": held["job_id"], "attempt": attempt, "first": 0, "records": [record]})
        };
        let told = async |path: &str, body: Value| app.json("POST", path, &body).await;
        for (path, body, taken) in [
            ("/executor/e1/jobs/log", log(&first, 1, "mine"), true),
            ("/executor/e2/jobs/log", log(&first, 1, "not mine"), false),
            ("/executor/e1/jobs/log", log(&first, 2, "not begun"), false),
            ("/executor/e1/jobs/log", log(&json!({"job_id": "nobody's"}), 1, "nobody's"), false),
            ("/executor/e2/jobs/waiting", json!({"held": first, "waiting_for": "me"}), false),
            ("/executor/e2/jobs/finish", json!({"held": first, "end": {"completed": {"output": 2}}}), false),
        ] {
            let (status, reply) = told(path, body).await;
            assert_eq!((status, &reply["data"]["taken"]), (200, &json!(taken)), "{path}: {reply}");
        }
        let foreign =
            json!({"held": second, "end": {"completed": {"output": 2}}, "log": log(&first, 1, "not mine")});
        let refused = told("/executor/e2/jobs/finish", foreign).await;
        assert_eq!(refusal(&refused), (400, "invalid_field"), "{}", refused.1);
        let renewed = told("/executor/e2/jobs/renew", json!({"runner_id": "runner-of-e1"})).await;
        assert_eq!((renewed.0, &renewed.1["data"]), (200, &json!([])), "it hears nothing of them");
        let nobody = told("/executor/e2/jobs/renew", json!({"runner_id": "a\0b"})).await;
        assert_eq!(nobody.0, if takes_nul { 200 } else { 400 }, "{}", nobody.1);
        let id = first["job_id"].as_str().unwrap();
        let (_, logs) = app.get(&format!("/jobs/{id}/logs")).await;
        assert!(logs.to_string().contains("mine") && !logs.to_string().contains("not mine"), "{logs}");
        let done = json!({"held": first, "end": {"completed": {"output": 1}}, "log": log(&first, 1, "mine at last")});
        assert_eq!(told("/executor/e1/jobs/finish", done).await.1["data"]["taken"], true);
        assert_eq!(app.ended(id).await["job_output_data"], 1);
        let late = told("/executor/e1/jobs/log", log(&first, 1, "late")).await;
        assert_eq!(late.1["data"]["taken"], false, "{}", late.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_counted() {
    let app = TestApp::start();
    let uri = app.add("counted", "if input_data: raise ValueError(1)\nreturn 1").await;
    for input in [0, 0, 1] {
        app.ended(&app.submit("local", job(&uri, json!(input))).await).await;
    }
    let metrics = crate::support::http().get(format!("{}/metrics", app.url())).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "edict_jobs_submitted_total{executor=\"local\"} 3",
        "edict_jobs_finished_total{executor=\"local\",outcome=\"completed\"} 2",
        "edict_jobs_finished_total{executor=\"local\",outcome=\"policy_failed\"} 1",
        "edict_job_wait_seconds_count{executor=\"local\"} 3",
        "edict_job_run_seconds_count{executor=\"local\"} 3",
    ] {
        assert!(metrics.contains(line), "no line {line} in\n{metrics}");
    }
}
