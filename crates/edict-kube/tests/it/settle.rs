//! What is not healthy says why.

use crate::support::{PATIENCE, TIMEOUT, Test};
use edict_kube::{Action, Health};
use edict_testbed::Mischief;
use serde_json::json;
use std::time::Duration;

/// How long an unhealthy workload is waited for, once the cluster shows what is wrong with it.
const A_WHILE: Duration = Duration::from_secs(5);

/// Acts, waits until the cluster shows what is wrong, and returns what is said of it.
async fn unhealthy(test: &Test, action: &Action, shows: impl Fn() -> bool) -> Health {
    let outcome = test.act(action, "one").await.unwrap();
    test.namespace.wait_for("what is wrong", shows);
    let health = test.cluster.settle(action, &outcome, A_WHILE).await.unwrap();
    assert!(!health.healthy, "{health:?}");
    assert!(u128::from(health.waited_ms) >= A_WHILE.as_millis(), "{health:?}");
    health
}

/// Whether the cluster shows a text of these objects.
fn shown(test: &Test, what: &str, text: &str) -> bool {
    test.namespace.get(&[what]).to_string().contains(text)
}

/// Whether a pod is held back after several crashes: for 20 seconds then.
fn crash_loops(test: &Test) -> bool {
    let pods = test.namespace.get(&["pods"]);
    pods["items"].as_array().unwrap().iter().any(|pod| {
        let container = &pod["status"]["containerStatuses"][0];
        container["restartCount"].as_i64() >= Some(2)
            && container["state"]["waiting"]["reason"] == json!("CrashLoopBackOff")
            && pod["metadata"]["deletionTimestamp"].is_null()
    })
}

#[tokio::test]
async fn a_rollback_to_a_crash_looping_revision_says_so() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    test.namespace.break_deployment("web");
    let healed = test.act_and_settle(&test.rollback("web", None), "heal").await.1;
    assert!(healed.healthy, "{healed:?}");
    // The crashed pod of before is not the one to be seen.
    test.namespace.wait_for("the end of old pods", || !shown(&test, "pods", "CrashLoopBackOff"));
    let health = unhealthy(&test, &test.rollback("web", None), || crash_loops(&test)).await;
    let reason = health.reason.unwrap();
    assert!(reason.contains("CrashLoopBackOff"), "{reason}");
    assert!(reason.contains(&health.pods[0].name) && health.pods[0].restarts > 1, "{:?}", health.pods);
}

#[tokio::test]
async fn a_pod_that_crashes_again_says_so() {
    let Some(test) = Test::start().await else { return };
    let mut record = test.namespace.deployment_record("web", 1);
    let container = &mut record["spec"]["template"]["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", "exit 3"]);
    test.namespace.create(&record);
    test.namespace.wait_for("a pod", || test.namespace.pods_of("web").len() == 1);
    let pod = test.namespace.pods_of("web").remove(0);
    let health = unhealthy(&test, &test.restart_pod(&pod, false), || {
        !test.namespace.has_pod(&pod) && crash_loops(&test)
    })
    .await;
    assert_eq!(health.pods.len(), 1, "{health:?}");
    assert_ne!(health.pods[0].name, pod);
    let reason = health.reason.unwrap();
    assert!(reason.contains("CrashLoopBackOff"), "{reason}");
}

/// A container without a readiness probe is ready for a moment even if it then crashes.
#[tokio::test]
async fn what_is_ready_must_stay_so() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    let action = test.scale("web", 1);
    let outcome = test.act(&action, "one").await.unwrap();
    let health = test.cluster.settle(&action, &outcome, Duration::from_secs(2)).await.unwrap();
    assert!(!health.healthy && health.reason.unwrap().contains("ready for less than 3 s"));
    let health = test.cluster.settle(&action, &outcome, PATIENCE).await.unwrap();
    assert!(health.healthy && health.waited_ms >= 3000, "{}", health.waited_ms);
}

#[tokio::test]
async fn an_image_that_is_not_there_says_so() {
    let Some(test) = Test::start().await else { return };
    let mut record = test.namespace.deployment_record("web", 0);
    let container = &mut record["spec"]["template"]["spec"]["containers"][0];
    (container["image"], container["imagePullPolicy"]) = (json!("localhost/nothing:0"), json!("Never"));
    test.namespace.create(&record);
    let wrong = || shown(&test, "pods", "ErrImageNeverPull");
    let reason = unhealthy(&test, &test.scale("web", 1), wrong).await.reason.unwrap();
    assert!(reason.contains("ErrImageNeverPull") && reason.contains("0 of 1 pods are available"), "{reason}");
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_so() {
    let Some(test) = Test::start().await else { return };
    let mut record = test.namespace.deployment_record("web", 0);
    record["spec"]["template"]["spec"]["nodeSelector"] = json!({"edict.dev/nowhere": "true"});
    test.namespace.create(&record);
    let wrong = || shown(&test, "pods", "Unschedulable");
    let reason = unhealthy(&test, &test.scale("web", 1), wrong).await.reason.unwrap();
    assert!(reason.contains("Unschedulable") && reason.contains("nodes are available"), "{reason}");
}

#[tokio::test]
async fn pods_that_a_quota_forbids_say_so() {
    let Some(test) = Test::start().await else { return };
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    test.namespace.create(&quota);
    test.namespace.wait_for("the quota", || {
        test.namespace.get(&["resourcequota/none"])["status"]["hard"]["pods"] == json!("0")
    });
    test.namespace.create(&test.namespace.deployment_record("web", 0));
    let wrong = || shown(&test, "deployments", "exceeded quota");
    let reason = unhealthy(&test, &test.scale("web", 1), wrong).await.reason.unwrap();
    assert!(
        reason.contains("0 of 1 pods are of the new revision") && reason.contains("exceeded quota"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_deployment_that_is_deleted_meanwhile_says_so() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    let action = test.restart("web");
    let outcome = test.act(&action, "one").await.unwrap();
    let health = test.cluster.settle(&action, &outcome, Duration::ZERO).await.unwrap();
    assert!(health.reason.unwrap().contains("could not be looked at in this time"));
    test.namespace.kubectl(&["delete", "deployment", "web"]);
    let health = test.cluster.settle(&action, &outcome, PATIENCE).await.unwrap();
    assert!(health.reason.unwrap().contains("was deleted"));
}

/// The API server goes away while somebody waits; what happened meanwhile is seen when it is back.
#[tokio::test]
async fn a_watch_that_breaks_is_taken_up_again() {
    let Some((test, mut proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    test.namespace.deployment("web", 2);
    test.namespace.pod("alone");
    let pod = test.namespace.pods_of("web").remove(0);
    for action in [test.restart_pod(&pod, false), test.restart_pod("alone", true), test.scale("web", 3)] {
        let outcome = test.act(&action, "one").await.unwrap();
        proxy.down().await;
        let settled = test.cluster.settle(&action, &outcome, PATIENCE);
        let meanwhile = async {
            let name = action.name().to_owned();
            let namespace = &test.namespace;
            tokio::task::yield_now().await;
            match &action {
                Action::ScaleDeployment { .. } => namespace.rolled_out("web"),
                _ => namespace.wait_for("the pod's end", || !namespace.has_pod(&name)),
            }
            proxy.up().await;
        };
        let (health, ()) = tokio::join!(settled, meanwhile);
        let health = health.unwrap();
        assert!(health.healthy, "{action:?}: {health:?}");
    }
}

/// Versions that the API server has forgotten are no reason to give up.
#[tokio::test]
async fn a_version_that_is_too_old_starts_anew() {
    let Some((test, proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    test.namespace.deployment("web", 1);
    let pod = test.namespace.pods_of("web").remove(0);
    let action = test.restart_pod(&pod, false);
    let outcome = test.act(&action, "one").await.unwrap();
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version"});
    proxy.on("GET", "/pods?&watch=true", 1, Mischief::Answer(410, None, gone.to_string()));
    let health = test.cluster.settle(&action, &outcome, PATIENCE).await.unwrap();
    assert!(health.healthy && health.pods[0].name != pod, "{health:?}");
}
