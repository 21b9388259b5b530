//! Executors that are processes of their own, seen through the policy system.

use crate::support::{EDICT, TestApp, free_port, http, policy, policy_source, refusal, wait_for};
use edict_client::records::{ExecutePolicy, ExecutorStatus};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Waits until an executor has this status; returns how long that took.
async fn until(app: &TestApp, id: &str, status: &str) -> Duration {
    let started = Instant::now();
    loop {
        let (_, reply) = app.get(&format!("/executor/{id}")).await;
        if reply["data"]["executor_status"] == status {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it is not {status}: {reply}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_registers_with_its_hardware_and_is_found() {
    let app = TestApp::start();
    let executor = TestApp::executor("executor-001", &app).start();
    for id in ["local", "executor-001"] {
        let (_, reply) = app.get(&format!("/executor/{id}")).await;
        let record = &reply["data"];
        assert_eq!(record["executor_status"], "healthy", "{record}");
        let hardware = &record["executor_hardware_info"];
        let node = &hardware["nodes"]["nodeData"][0];
        assert_eq!(hardware["nodes"]["count"], 1, "{hardware}");
        for machine in [hardware, node] {
            assert!(!machine["id"].as_str().unwrap().is_empty());
            assert!(machine["vcpus"]["count"].as_u64().unwrap() >= 1);
            for path in [
                "/storage/disks",
                "/storage/size",
                "/network/interfaces",
                "/network/txBandwidth",
                "/network/rxBandwidth",
                "/swap",
            ] {
                assert!(machine.pointer(path).unwrap().is_u64(), "{path}: {machine}");
            }
        }
        let megabytes = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kilobytes: u64 = megabytes.split_whitespace().nth(1).unwrap().parse().unwrap();
        let told = hardware["memory"].as_u64().unwrap();
        assert!(told > kilobytes / 2000 && told < kilobytes / 500, "{told} MB of {kilobytes} kB");
    }
    let query =
        json!({"executor_hardware_info.vcpus.count": {"$gte": 1}, "executor_id": {"$regex": "^executor-"}});
    let (_, found) = app.json("POST", "/executor/query", &query).await;
    assert_eq!(found["data"][0]["executor_host_uri"], executor.url(), "{found}");
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_commands_logs_and_failures_come_through_the_policy_system() {
    let app = TestApp::start();
    let executor = TestApp::executor("e1", &app).start();
    let source = policy_source(
        "print('here', self.settings)\nif input_data == 'fail': raise LookupError('asked to')\nif input_data == 'slow':\n    import time\n    time.sleep(60)\nreturn [input_data, parameters]",
    ) + "\n    def management(self, action, data):\n        print('managing')\n        self.parameters.update(data)\n        return action\n";
    let mut record = policy("remote", &source);
    record["policy_settings"] = json!({"a": 1});
    record["policy_input_schema"] =
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "maxLength": 4});
    record["execution_limits"] = json!({"timeout_ms": 1000});
    let uri = app.register_record(record).await;
    let request =
        json!({"policy_rule_uri": uri, "input_data": "é", "parameters": {"p": 1}, "settings": {"b": 2}});
    let (status, reply) = app.json("POST", "/executor/e1/execute_policy?logs=true", &request).await;
    assert_eq!((status, &reply["data"]), (200, &json!(["é", {"p": 1}])), "{reply}");
    assert_eq!(reply["logs"][0]["message"], "here {'a': 1, 'b': 2}");
    let (_, reply) = app.manage("e1", &uri, "go", json!({"q": 2})).await;
    assert_eq!(reply, json!({"success": true, "data": "go"}));
    assert_eq!(app.run_on("e1", &uri, json!("x")).await.1["data"], json!(["x", {"q": 2}]));
    // Refusals and failures are the executor's own, not taken for an executor that is away.
    for (input, expected) in [
        (json!("fail"), (502, "policy_failed")),
        (json!("slow"), (504, "policy_timeout")),
        (json!("too long"), (422, "input_invalid")),
    ] {
        let reply = app.run_on("e1", &uri, input).await;
        assert_eq!(refusal(&reply), expected, "{}", reply.1);
    }
    assert_eq!(refusal(&app.run_on("e1", "nowhere:1-x", json!(0)).await), (404, "policy_not_found"));
    let (_, record) = app.get("/executor/e1").await;
    assert_eq!(record["data"]["executor_status"], "healthy");
    // One id leads through the logs of both.
    let post =
        http().post(format!("{}/executor/e1/execute_policy", app.url())).header("x-request-id", "trace-me-7");
    let body = json!({"policy_rule_uri": uri, "input_data": "x"}).to_string();
    let reply = post.body(body).send().await.unwrap();
    assert_eq!(reply.headers()["x-request-id"], "trace-me-7");
    assert!(executor.log().contains("trace-me-7"), "{}", executor.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_serves_only_its_policy_system() {
    let app = TestApp::start();
    let executor = TestApp::executor("e1", &app).start();
    let uri = app.add("p", "return 1").await;
    let body = json!({"policy_rule_uri": uri, "input_data": 0}).to_string();
    for path in ["execute_policy", "execute_mgmt_command"] {
        let url = format!("{}/{path}", executor.url());
        let nothing = http().post(&url).body(body.clone()).send().await.unwrap();
        assert_eq!(nothing.status(), 401);
        let wrong = http().post(&url).bearer_auth("a".repeat(64)).body(body.clone()).send().await.unwrap();
        assert_eq!(wrong.status(), 401);
    }
    for path in ["healthz", "readyz", "metrics", "openapi.json"] {
        let url = format!("{}/{path}", executor.url());
        assert_eq!(http().get(url).send().await.unwrap().status(), 200, "{path}");
    }
    // The token that opens it is nowhere to be read.
    for path in ["/executor/e1", "/metrics"] {
        let text = http().get(format!("{}{path}", app.url())).send().await.unwrap().text().await.unwrap();
        assert!(!text.contains("executor_token"), "{text}");
    }
    let (_, found) = app.json("POST", "/executor/query", &json!({"executor_token": {"$exists": true}})).await;
    assert_eq!(found["data"], json!([]));
    assert_eq!(app.run_on("e1", &uri, json!(0)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_follows_an_executor_that_dies_and_comes_back() {
    let app = TestApp::builder().setting("executor_patience_seconds", 1).start();
    let mut called = TestApp::executor("called", &app).start();
    let mut silent = TestApp::executor("silent", &app).start();
    let mut polite = TestApp::executor("polite", &app).start();
    let uri = app.add("p", "import time\ncontext['on'] = 1\ntime.sleep(input_data)\nreturn 1").await;
    for id in ["called", "silent", "polite"] {
        assert_eq!(app.run_on(id, &uri, json!(0)).await.0, 200);
    }
    app.json("POST", &format!("/policy/{uri}/context"), &json!({"op": "clear"})).await;
    // A run is under way when its executor dies.
    let (reply, ()) = tokio::join!(app.run_on("called", &uri, json!(20)), async {
        let started = Instant::now();
        loop {
            let (_, items) = app.json("POST", &format!("/policy/{uri}/context"), &json!({"op": "len"})).await;
            if items["data"] == 1 || started.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
        called.kill();
        silent.kill();
    });
    assert_eq!(refusal(&reply), (502, "executor_unreachable"), "{}", reply.1);
    let dead = Instant::now();
    // A call that fails is noticed at once.
    let reply = app.run_on("called", &uri, json!(0)).await;
    assert_eq!(refusal(&reply), (502, "executor_unreachable"), "{}", reply.1);
    assert!(reply.1["message"].as_str().unwrap().contains("`called`"), "{}", reply.1);
    let (_, record) = app.get("/executor/called").await;
    assert_eq!(record["data"]["executor_status"], "unreachable", "{record}");
    // One that says goodbye, too.
    assert!(polite.stop(), "{}", polite.log());
    let (_, record) = app.get("/executor/polite").await;
    assert_eq!(record["data"]["executor_status"], "unreachable", "{record}");
    // Silence takes a little longer.
    until(&app, "silent", "unreachable").await;
    assert!(dead.elapsed() < Duration::from_secs(15), "it took {:?}", dead.elapsed());
    // `called`'s own id is free again, since its predecessor is silent.
    for executor in [&mut called, &mut polite] {
        executor.restart();
    }
    for id in ["called", "polite"] {
        until(&app, id, "healthy").await;
        assert_eq!(app.run_on(id, &uri, json!(0)).await.0, 200);
    }
    assert!(silent.left_behind().is_empty(), "{:?}", silent.left_behind());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_for_an_executor_that_is_started_anew() {
    let app = TestApp::start();
    let mut executor = TestApp::executor("e1", &app).start();
    let uri = app.add("echo", "return input_data").await;
    assert_eq!(app.run_on("e1", &uri, json!(0)).await.0, 200);
    for says_goodbye in [true, false] {
        if says_goodbye {
            assert!(executor.stop(), "{}", executor.log());
        } else {
            executor.kill();
        }
        let restart = async { tokio::task::block_in_place(|| executor.restart()) };
        let (reply, ()) = tokio::join!(app.run_on("e1", &uri, json!("waits")), restart);
        assert_eq!((reply.0, &reply.1["data"]), (200, &json!("waits")), "{}", reply.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_executor_with_the_same_id_gives_up() {
    let app = TestApp::start();
    let first = TestApp::executor("e1", &app).start();
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(EDICT);
    command.args(["executor", "--executor-id", "e1", "--executor-port", "0", "--server-url", &app.url()]);
    command.arg("--data-dir").arg(folder.path()).current_dir(folder.path());
    let mut second = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = wait_for(|| second.try_wait().unwrap());
    let ended = ended.unwrap_or_else(|| {
        second.kill().unwrap();
        panic!("it goes on");
    });
    let told = std::io::read_to_string(second.stderr.unwrap()).unwrap();
    assert!(!ended.success());
    assert!(told.contains("`e1` is in use"), "{told}");
    let (_, record) = app.get("/executor/e1").await;
    assert_eq!(record["data"]["executor_host_uri"], first.url());
    assert_eq!(record["data"]["executor_status"], "healthy");
    // `local` is taken, too.
    let local = json!({"instance_id": "x", "executor_host_uri": "http://127.0.0.1:1", "executor_token": "x", "executor_status": "healthy"});
    let reply = app.json("PUT", "/executor/local/heartbeat", &local).await;
    assert_eq!(refusal(&reply), (409, "executor_taken"), "{}", reply.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_runs_the_current_policy_and_outlives_its_policy_system() {
    let mut app = TestApp::builder().setting("system_port", free_port()).start();
    let executor = TestApp::executor("e1", &app).start();
    let uri = app.add("p", "return ['a', parameters]").await;
    assert_eq!(app.run_on("e1", &uri, json!(0)).await.1["data"], json!(["a", {}]));
    for (number, change) in [
        json!({"$set": {"policy_parameters.n": 1}}),
        json!({"$set": {"code": policy_source("return ['b', parameters]")}}),
        json!({"$unset": {"policy_parameters.n": ""}}),
    ]
    .iter()
    .enumerate()
    {
        let (status, reply) = app.json("PUT", &format!("/policy/{uri}"), change).await;
        assert_eq!(status, 200, "{reply}");
        let expected = [json!(["a", {"n": 1}]), json!(["b", {"n": 1}]), json!(["b", {}])];
        assert_eq!(app.run_on("e1", &uri, json!(0)).await.1["data"], expected[number]);
    }
    // The same URI, deleted and registered anew, starts at revision 1 again: it is another policy nevertheless.
    let (_, once) = app.json("POST", "/policy", &policy("again", &policy_source("return 'first'"))).await;
    let again = once["data"]["policy_rule_uri"].as_str().unwrap();
    assert_eq!(app.run_on("e1", again, json!(0)).await.1["data"], "first");
    app.send("DELETE", &format!("/policy/{again}"), "").await;
    assert_eq!(refusal(&app.run_on("e1", again, json!(0)).await), (404, "policy_not_found"));
    app.add("again", "return 'second'").await;
    assert_eq!(app.run_on("e1", again, json!(0)).await.1["data"], "second");

    app.kill();
    app.restart();
    assert_eq!(app.run_on("e1", &uri, json!(0)).await.1["data"], json!(["b", {}]));
    app.kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    app.restart();
    until(&app, "e1", "healthy").await;
    let (_, record) = app.get("/executor/e1").await;
    assert_eq!(record["data"]["executor_host_uri"], executor.url());
    assert_eq!(app.run_on("e1", &uri, json!(0)).await.1["data"], json!(["b", {}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_protect_the_way_through_an_executor() {
    let tokens = "admin:admin-token-1,operator:operator-token-1,viewer:viewer-token-1";
    let app = TestApp::builder().setting("auth_tokens", tokens).start();
    // Without a token, and with one that may only look, an executor cannot register.
    for token in [None, Some("viewer-token-1")] {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = Command::new(EDICT);
        command.args(["executor", "--executor-id", "e0", "--executor-port", "0", "--server-url", &app.url()]);
        command.arg("--data-dir").arg(folder.path()).current_dir(folder.path());
        if let Some(token) = token {
            command.env("EDICT_SERVER_TOKEN", token);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("token"), "{told}");
    }
    let executor = TestApp::executor("e1", &app).setting("server_token", "operator-token-1").start();
    let admin = app.client_with("admin-token-1");
    let source = policy_source("return context.incr('n')")
        + "\n    def management(self, action, data):\n        self.parameters['a'] = 1\n";
    let uri = admin.create_policy(&policy("p", &source), false).await.unwrap().record.policy_rule_uri;
    let run: ExecutePolicy =
        serde_json::from_value(json!({"policy_rule_uri": uri, "input_data": 0})).unwrap();
    let operator = app.client_with("operator-token-1");
    assert_eq!(operator.execute_policy("e1", &run, false).await.unwrap().data, 1);
    let manage = serde_json::from_value(json!({"policy_rule_uri": uri, "action": "a"})).unwrap();
    operator.execute_mgmt_command("e1", &manage).await.unwrap();
    assert_eq!(operator.policy_state("e1", &uri).await.unwrap().parameters["a"], 1);
    assert_eq!(admin.get_executor("e1").await.unwrap().executor_status, ExecutorStatus::Healthy);
    for (client, code) in [(app.client_with("viewer-token-1"), "forbidden"), (app.client(), "unauthorized")] {
        for id in ["e1", "local"] {
            let error = client.execute_policy(id, &run, false).await.unwrap_err();
            let edict_client::Error::Api(error) = error else { panic!("{error}") };
            assert_eq!(error.code, code);
        }
    }
    // The tokens of the policy system do not open the executor itself.
    let direct = http().post(format!("{}/execute_policy", executor.url())).bearer_auth("admin-token-1");
    let reply = direct.body(serde_json::to_string(&run).unwrap()).send().await.unwrap();
    assert_eq!(reply.status(), 401);
    for secret in ["admin-token-1", "operator-token-1", "viewer-token-1"] {
        assert!(!app.log().contains(secret) && !executor.log().contains(secret), "a token is in a log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_ends_its_run_on_an_executor_too() {
    let app = TestApp::start();
    let _executor = TestApp::executor("e1", &app).setting("max_runs", 1).start();
    let slow = app.add("slow", "import time\ncontext['on'] = 1\ntime.sleep(25)").await;
    let quick = app.add("quick", "return 1").await;
    let request = json!({"policy_rule_uri": slow, "input_data": 0}).to_string();
    let post = http().post(format!("{}/executor/e1/execute_policy", app.url()));
    let abandoned = post.timeout(Duration::from_millis(2000)).body(request).send().await;
    assert!(abandoned.unwrap_err().is_timeout());
    let (_, items) = app.json("POST", &format!("/policy/{slow}/context"), &json!({"op": "len"})).await;
    assert_eq!(items["data"], 1, "it had not begun");
    let started = Instant::now();
    let (status, reply): (u16, Value) = app.run_on("e1", &quick, json!(0)).await;
    assert_eq!(status, 200, "{reply}");
    assert!(started.elapsed() < Duration::from_secs(10), "it waited {:?}", started.elapsed());
}
