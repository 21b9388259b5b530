//! Runs that are given up, runtimes that stop or are killed, templates that nobody uses.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use edict_runtime::{Fault, Isolation, Runtime};
use serde_json::json;

use crate::support::{
    Bed, MemoryHost, WELL_BEHAVED, config, eval, open_descriptors, policy_of, processes_of, value, wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_given_up_ends() {
    for namespaces in [true, false] {
        let bed = Bed::with(|config| (config.max_runs, config.namespaces) = (1, namespaces)).await;
        let policy = bed.policy("loop", &policy_of("context['begun'] = 1\nwhile input_data: pass\nreturn 1"));
        let (runtime, endless) = (bed.runtime.clone(), policy.clone());
        let task = tokio::spawn(async move { runtime.run(&endless, eval(json!(1))).await.map(drop) });
        wait_until("the run doesn't begin", || bed.host.contexts.lock().unwrap().contains_key(&policy.uri))
            .await;
        task.abort();
        // The one place is free again.
        assert_eq!(bed.value(&policy, json!(0)).await, 1);
        bed.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_under_load_leaves_nothing() {
    let bed = Bed::new().await;
    let slow = bed.policy("slow", &policy_of("import time\ntime.sleep(input_data)\nreturn 1"));
    bed.value(&slow, json!(0)).await;
    let mut tasks = Vec::new();
    for number in 0..100 {
        let (runtime, policy) = (bed.runtime.clone(), slow.clone());
        tasks.push(tokio::spawn(
            async move { runtime.run(&policy, eval(json!(number % 10))).await.map(drop) },
        ));
    }
    wait_until("no run goes on", || bed.runtime.stats().running == 32).await;
    let started = Instant::now();
    bed.runtime.stop(Duration::from_millis(200)).await;
    assert!(started.elapsed() < Duration::from_secs(3), "stopping took {:?}", started.elapsed());
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            assert!(matches!(error.fault, Fault::Stopping | Fault::Crashed { .. }), "{error:?}");
        }
    }
    assert_eq!(bed.fault(&slow, json!(0)).await, Fault::Stopping);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_templates_are_stopped() {
    let bed = Bed::with(|config| config.idle = Duration::from_millis(100)).await;
    let policy = bed.policy("good", WELL_BEHAVED);
    bed.value(&policy, json!([1])).await;
    assert_eq!(bed.runtime.stats().templates, 1);
    wait_until("the template stays", || processes_of(bed.folder.path()).is_empty()).await;
    assert_eq!(bed.value(&policy, json!([1])).await["sum"], 1);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_templates_push_out_the_oldest() {
    let bed = Bed::with(|config| config.max_templates = 2).await;
    for name in ["a", "b", "c", "d"] {
        bed.value(&bed.policy(name, WELL_BEHAVED), json!([1])).await;
    }
    wait_until("templates stay", || bed.runtime.stats().templates == 2).await;
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_killed_is_replaced() {
    let bed = Bed::new().await;
    let policy = bed.policy("good", WELL_BEHAVED);
    for _ in 0..3 {
        assert_eq!(bed.value(&policy, json!([1])).await["sum"], 1);
        for line in processes_of(bed.folder.path()) {
            let pid: i32 = line.split(':').next().unwrap().parse().unwrap();
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        wait_until("the template isn't missed", || bed.runtime.stats().templates == 0).await;
    }
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_runs_use_no_more_than_a_few() {
    let bed = Bed::new().await;
    let mut once = bed.policy("once", &policy_of("print('x')\nreturn input_data"));
    for isolation in [Isolation::Process, Isolation::Instance] {
        once.isolation = isolation;
        let mut before = (0, 0);
        for round in 0..3 {
            for number in 0..300 {
                assert_eq!(bed.value(&once, json!(number)).await, number);
            }
            let now = (open_descriptors(), processes_of(bed.folder.path()).len());
            if round > 0 {
                // As many children wait ahead as the load asks for, with two descriptors each; a leak is one of each
                // per run.
                assert!(now.0 <= before.0 + 40 && now.1 <= before.1 + 12, "{before:?} grew to {now:?}");
            }
            before = now;
        }
    }
    bed.close().await;
}

/// The other half of the next test: a host of its own, which that test kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by host_killed_leaves_nothing"]
async fn host_to_be_killed() {
    let folder = std::path::PathBuf::from(std::env::var("EDICT_TEST_FOLDER").unwrap());
    let mut config = config(&folder);
    config.namespaces = std::env::var("EDICT_TEST_NAMESPACES").unwrap() == "true";
    let runtime = Runtime::start(config, std::sync::Arc::new(MemoryHost::default())).await.unwrap();
    let make = |name: &str, source: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("function.py"), source).unwrap();
        edict_runtime::Policy {
            uri: name.to_owned(),
            code: std::sync::Arc::new(edict_runtime::bundle::CodeDir::open(&path).unwrap()),
            digest: name.to_owned(),
            environment: None,
            limits: edict_runtime::Limits::default(),
            isolation: Isolation::Process,
        }
    };
    let good = make("good", WELL_BEHAVED);
    let looping = make("looping", &policy_of("while True: pass"));
    let import = make("import", "while True: pass");
    assert_eq!(value(&runtime.run(&good, eval(json!([1]))).await.unwrap())["sum"], 1);
    println!("READY");
    let _ = tokio::join!(runtime.run(&looping, eval(json!(0))), runtime.run(&import, eval(json!(0))));
}

#[tokio::test(flavor = "multi_thread")]
async fn host_killed_leaves_nothing() {
    for namespaces in ["true", "false"] {
        let bed = Bed::new().await;
        let folder = bed.folder.path().join("victim");
        std::fs::create_dir(&folder).unwrap();
        let mut host = Command::new(std::env::current_exe().unwrap())
            .args(["lifecycle::host_to_be_killed", "--exact", "--ignored", "--nocapture"])
            .env("EDICT_TEST_FOLDER", &folder)
            .env("EDICT_TEST_NAMESPACES", namespaces)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("READY")), "the host didn't get ready");
        let victims = || processes_of(&folder);
        // A template with two children ready, one that runs a loop, one that imports one.
        wait_until("the runs don't begin", || victims().len() >= 5).await;
        host.kill().unwrap();
        host.wait().unwrap();
        drop(lines);
        wait_until("processes outlive their host", || victims().is_empty()).await;
        bed.close().await;
    }
}
