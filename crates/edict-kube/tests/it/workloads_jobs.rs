//! Attempts of jobs as Jobs of a real cluster.

use crate::support::PATIENCE;
use crate::workloads_support::{Executor, WORK, failed, job, open_with};
use edict_kube::{Fault, JobEnd, ProblemKind};
use edict_testbed::Mischief;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_job_runs_once_with_what_it_was_given() {
    let Some(executor) = Executor::start().await else { return };
    let before = executor.objects();
    let job =
        job("a_Job/1", "echo $SHARED $OWN $TOKEN; touch /data/x /tmp/x && ! touch /x 2>/dev/null && id -u");
    assert_eq!(executor.run(&job).await, JobEnd::Succeeded);
    let output = executor.workloads.job_output(&job.job_id, 1).await.unwrap().unwrap();
    assert!(output.starts_with("shared own s3cret\n") && output.ends_with("10001\n"), "{output}");
    let seen = executor.workloads.jobs();
    assert_eq!(
        (seen.len(), seen[0].job_id.as_str(), seen[0].attempt, seen[0].revision),
        (1, "a_Job/1", 1, 7)
    );
    assert!(seen[0].ended);
    // Starting what has ended is nothing.
    executor.workloads.start_job(&job).await.unwrap();
    executor.workloads.remove_job(&job.job_id, 1).await.unwrap();
    assert!(executor.workloads.jobs().is_empty());
    executor.clean(&before);
    assert_eq!(executor.ended(&job).await, JobEnd::Gone);
    assert_eq!(executor.workloads.job_output(&job.job_id, 1).await.unwrap(), None);
}

#[tokio::test]
async fn another_process_finds_a_job() {
    let Some(executor) = Executor::start().await else { return };
    let job = job("j", "sleep 4");
    executor.workloads.start_job(&job).await.unwrap();
    let other = executor.again().await;
    assert_eq!(other.jobs().len(), 1);
    other.start_job(&job).await.unwrap();
    assert_eq!(other.job_ended("j", 1).await, JobEnd::Succeeded);
    assert_eq!(executor.ended(&job).await, JobEnd::Succeeded);
    assert_eq!(executor.objects().iter().filter(|name| name.starts_with("pod/")).count(), 1);
}

/// A pod that finds no secret waits for it.
#[tokio::test]
async fn the_secret_that_jobs_share_is_restored() {
    let Some(executor) = Executor::start().await else { return };
    assert_eq!(executor.run(&job("first", "true")).await, JobEnd::Succeeded);
    let name = || executor.namespace.kubectl(&["get", "secrets", "-o", "name", "-l", "edict.dev/executor"]);
    let secret = name();
    assert!(secret.starts_with("secret/jobs-") && secret.lines().count() == 1, "{secret}");
    executor.namespace.kubectl(&["delete", secret.trim()]);
    // This one believes that it is there, and what it starts is waited for with the patience of an executor.
    let second = job("second", "test $TOKEN = s3cret");
    executor.workloads.start_job(&second).await.unwrap();
    let patient = open_with(&executor, |options| options.patience = PATIENCE).await;
    let end = tokio::time::timeout(PATIENCE, patient.job_ended("second", 1)).await.unwrap();
    assert_eq!((end, name()), (JobEnd::Succeeded, secret));
}

#[tokio::test]
async fn a_failure_has_its_exit_code_and_last_words() {
    let Some(executor) = Executor::start().await else { return };
    let (exit_code, problem) = failed(executor.run(&job("j", "echo last words; exit 3")).await);
    assert_eq!((exit_code, problem.kind), (Some(3), ProblemKind::Crashed));
    assert!(problem.message.ends_with("last words"), "{}", problem.message);
    assert_eq!(executor.workloads.job_output("j", 1).await.unwrap().unwrap(), "last words\n");
}

#[tokio::test]
async fn memory_and_time_have_their_own_words() {
    let Some(executor) = Executor::start().await else { return };
    let mut eager = job("eager", "x=0123456789abcdef; while :; do x=$x$x; done");
    eager.memory_mb = 1;
    let mut slow = job("slow", WORK);
    slow.deadline = Duration::from_secs(3);
    let (eager, slow) = tokio::join!(executor.run(&eager), executor.run(&slow));
    let (_, problem) = failed(slow);
    assert_eq!(problem.kind, ProblemKind::Deadline, "{}", problem.message);
    let (exit_code, problem) = failed(eager);
    assert_eq!((exit_code, problem.kind), (Some(137), ProblemKind::OutOfMemory), "{}", problem.message);
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_ends_the_job() {
    let Some(executor) = Executor::start().await else { return };
    let before = executor.objects();
    let wrong = open_with(&executor, |options| options.image = "localhost:1/no/such:1".to_owned()).await;
    wrong.start_job(&job("j", "true")).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, wrong.job_ended("j", 1)).await.unwrap();
    let (exit_code, problem) = failed(end);
    assert_eq!((exit_code, problem.kind), (None, ProblemKind::Image));
    assert!(
        problem.message.starts_with("image `localhost:1/no/such:1`: ErrImagePull: "),
        "{}",
        problem.message
    );
    executor.clean(&before);
}

#[tokio::test]
async fn a_missing_program_ends_the_job() {
    let Some(executor) = Executor::start().await else { return };
    let wrong = open_with(&executor, |options| options.command = Some(vec!["/no/such".to_owned()])).await;
    wrong.start_job(&job("j", "true")).await.unwrap();
    let (_, problem) = failed(tokio::time::timeout(PATIENCE, wrong.job_ended("j", 1)).await.unwrap());
    assert_eq!(problem.kind, ProblemKind::Config);
    assert!(problem.message.contains("/no/such"), "{}", problem.message);
}

#[tokio::test]
async fn a_job_waits_for_a_quota_and_for_a_node() {
    let Some(executor) = Executor::start().await else { return };
    executor.namespace.kubectl(&["create", "quota", "none", "--hard=pods=0"]);
    executor.namespace.wait_for("the quota", || executor.get("quota/none")["status"]["hard"].is_object());
    let job = job("j", "true");
    executor.workloads.start_job(&job).await.unwrap();
    let mut waits = None;
    for _ in 0..100 {
        waits = executor.workloads.job_waits("j", 1).await;
        if waits.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let waits = waits.unwrap();
    assert_eq!(waits.kind, ProblemKind::Quota);
    assert!(waits.message.contains("exceeded quota: none"), "{}", waits.message);
    let mut elsewhere = job.clone();
    elsewhere.job_id = "elsewhere".to_owned();
    elsewhere.node_selector.insert("disk".to_owned(), "huge".to_owned());
    executor.namespace.kubectl(&["delete", "quota", "none"]);
    assert_eq!(executor.ended(&job).await, JobEnd::Succeeded);
    assert_eq!(executor.workloads.job_waits("j", 1).await, None);
    elsewhere.deadline = Duration::from_secs(5);
    let (_, problem) = failed(executor.run(&elsewhere).await);
    assert_eq!(problem.kind, ProblemKind::Deadline);
    assert!(problem.message.contains("Unschedulable: "), "{}", problem.message);
}

/// Its controller makes another pod, which would be the same attempt again: when the end is told, that one is gone, too.
#[tokio::test]
async fn a_pod_that_somebody_deletes_ends_the_job() {
    let Some(executor) = Executor::start().await else { return };
    let before = executor.objects();
    let job = job("j", WORK);
    executor.workloads.start_job(&job).await.unwrap();
    executor.running(&job).await;
    let delete = async {
        let pods = executor.namespace.kubectl(&["get", "pods", "-o", "name"]);
        executor.namespace.kubectl(&["delete", "--wait=false", pods.trim()]);
    };
    let (end, ()) = tokio::join!(executor.ended(&job), delete);
    let (_, problem) = failed(end);
    assert_eq!(problem.kind, ProblemKind::Evicted, "{}", problem.message);
    assert!(!executor.objects().iter().any(|name| name.starts_with("pod/")));
    executor.clean(&before);
}

#[tokio::test]
async fn a_job_that_is_removed_is_gone_with_its_pod() {
    let Some(executor) = Executor::start().await else { return };
    let before = executor.objects();
    let job = job("j", WORK);
    executor.workloads.start_job(&job).await.unwrap();
    executor.running(&job).await;
    let (end, removed) = tokio::join!(executor.ended(&job), executor.workloads.remove_job("j", 1));
    removed.unwrap();
    assert!(!executor.objects().iter().any(|name| name.starts_with("pod/")));
    assert_eq!(end, JobEnd::Gone);
    executor.clean(&before);
    executor.workloads.remove_job("j", 1).await.unwrap();
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone() {
    let Some(executor) = Executor::start().await else { return };
    executor.workloads.start_job(&job("j", WORK)).await.unwrap();
    let name = executor.get("jobs")["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    executor.workloads.remove_job("j", 1).await.unwrap();
    let spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [executor.namespace.container()]}}});
    let theirs = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec});
    executor.namespace.create(&theirs);
    let before = executor.get(&format!("job/{name}"))["metadata"]["uid"].clone();
    let fault = executor.workloads.start_job(&job("j", WORK)).await.unwrap_err();
    assert!(matches!(&fault, Fault::Conflict { why } if why.contains(&name)), "{fault}");
    let fault = executor.workloads.remove_job("j", 1).await.unwrap_err();
    assert!(matches!(fault, Fault::Conflict { .. }), "{fault}");
    assert_eq!(executor.get(&format!("job/{name}"))["metadata"]["uid"], before);
    assert!(executor.workloads.jobs().is_empty());
}

#[tokio::test]
async fn a_job_that_ended_long_ago_is_removed() {
    let Some(executor) = Executor::start().await else { return };
    let before = executor.objects();
    let mut job = job("j", "true");
    job.ttl = Duration::from_secs(1);
    assert_eq!(executor.run(&job).await, JobEnd::Succeeded);
    executor.until("it is removed", || executor.workloads.jobs().is_empty()).await;
    executor.clean(&before);
}

#[tokio::test]
async fn what_is_seen_survives_a_connection_that_breaks() {
    let Some((executor, mut proxy)) = Executor::with_proxy().await else { return };
    let job = job("j", "sleep 3");
    executor.workloads.start_job(&job).await.unwrap();
    proxy.down().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.up().await;
    assert_eq!(executor.ended(&job).await, JobEnd::Succeeded);
    // The answer to what was done was lost: it is done once.
    proxy.on("POST", "/jobs", 1, Mischief::CutAfter);
    let mut next = job.clone();
    next.attempt = 2;
    let fault = executor.workloads.start_job(&next).await.unwrap_err();
    assert!(fault.uncertain(), "{fault}");
    executor.workloads.start_job(&next).await.unwrap();
    assert_eq!(executor.ended(&next).await, JobEnd::Succeeded);
    assert_eq!(executor.workloads.jobs().len(), 2);
}

#[tokio::test]
async fn a_missing_right_is_named_at_the_start() {
    let Some(executor) = Executor::start().await else { return };
    let patch = json!([{"op": "replace", "path": "/rules", "value": []}]);
    executor.namespace.kubectl(&["patch", "role", "edict", "--type=json", "-p", &patch.to_string()]);
    executor.namespace.wait_for("the change of the role", || {
        let account = format!("system:serviceaccount:{}:edict", executor.namespace.name());
        let may = executor
            .namespace
            .command(&["auth", "can-i", "list", "jobs", "--as", &account])
            .output()
            .unwrap();
        !may.status.success()
    });
    let cluster =
        edict_kube::Cluster::connect(Some(&executor.namespace.kubeconfig()), PATIENCE).await.unwrap();
    let here = executor.namespace.name().to_owned();
    let started = edict_kube::Workloads::start(
        std::sync::Arc::new(cluster),
        crate::workloads_support::mark(),
        here,
        edict_kube::PodOptions::default(),
    );
    let fault = started.await.err().unwrap();
    assert!(fault.to_string().contains("list jobs.batch in namespace"), "{fault}");
}
