//! Pods are restarted and deleted; what would not come back is not.

use crate::support::{Test, conflict};
use edict_kube::{Action, Fault};
use serde_json::json;

#[tokio::test]
async fn a_restarted_pod_is_gone_and_replaced() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 2);
    let before = test.namespace.pods_of("web");
    let (outcome, health) = test.act_and_settle(&test.restart_pod(&before[0], false), "one").await;
    assert!(health.healthy, "{health:?}");
    assert_eq!(outcome["podName"], json!(before[0]));
    assert_eq!(outcome["owner"]["kind"], "ReplicaSet");
    assert_eq!(outcome["dryRun"], json!(false));
    let after = test.namespace.pods_of("web");
    assert!(!after.contains(&before[0]) && after.contains(&before[1]), "{before:?} {after:?}");
    assert_eq!(health.pods.len(), 1);
    assert!(health.pods[0].ready && after.contains(&health.pods[0].name), "{health:?}");
}

#[tokio::test]
async fn a_pod_of_a_stateful_set_comes_back_under_its_name() {
    let Some(test) = Test::start().await else { return };
    let labels = json!({"app": "db"});
    test.namespace.create(&json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": test.namespace.pod_spec()}},
    }));
    test.namespace.kubectl(&["rollout", "status", "statefulset/db", "--timeout=120s"]);
    let uid = || test.namespace.get(&["pod", "db-0"])["metadata"]["uid"].clone();
    let before = uid();
    let (outcome, health) = test.act_and_settle(&test.restart_pod("db-0", false), "one").await;
    assert!(health.healthy && health.pods[0].name == "db-0", "{health:?}");
    assert_eq!(outcome["uid"], before);
    assert_ne!(uid(), before);
}

#[tokio::test]
async fn a_pod_without_a_controller_is_restarted_by_force_only() {
    let Some(test) = Test::start().await else { return };
    test.namespace.pod("alone");
    let why = conflict(test.cluster.look(&test.restart_pod("alone", false)).await);
    assert!(why.contains("`alone` has no controller") && why.contains("`force`"), "{why}");
    assert!(test.namespace.has_pod("alone"));
    let (_, health) = test.act_and_settle(&test.restart_pod("alone", true), "one").await;
    assert!(health.healthy && health.pods.is_empty(), "{health:?}");
    assert!(!test.namespace.has_pod("alone"));
}

#[tokio::test]
async fn a_pod_whose_controller_is_gone_or_going_is_not_restarted() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    let pod = test.namespace.pods_of("web").remove(0);
    let owned = |uid: &str| {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "other", "uid": uid, "controller": true});
        json!({"metadata": {"ownerReferences": [owner]}})
    };
    // A finalizer keeps the replica set there, on its way out.
    let set =
        test.namespace.get(&["replicasets"])["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    test.namespace.kubectl(&[
        "patch",
        "replicaset",
        &set,
        "-p",
        r#"{"metadata": {"finalizers": ["edict.dev/test"]}}"#,
    ]);
    test.namespace.kubectl(&["delete", "replicaset", &set, "--wait=false", "--cascade=orphan"]);
    let why = conflict(test.cluster.look(&test.restart_pod(&pod, false)).await);
    test.namespace.kubectl(&["patch", "replicaset", &set, "-p", r#"{"metadata": {"finalizers": null}}"#]);
    assert!(why.contains("is being deleted") || why.contains("has no controller"), "{why}");
    // Nobody owns this one, whatever it says; the garbage collector will find out as well.
    let mut record = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "child"}, "spec": test.namespace.pod_spec()});
    record["metadata"]["ownerReferences"] =
        owned("00000000-0000-0000-0000-000000000000")["metadata"]["ownerReferences"].clone();
    record["metadata"]["finalizers"] = json!(["edict.dev/test"]);
    test.namespace.create(&record);
    let why = conflict(test.cluster.look(&test.restart_pod("child", false)).await);
    test.namespace.kubectl(&["patch", "pod", "child", "-p", r#"{"metadata": {"finalizers": null}}"#]);
    assert!(why.contains("which is gone") || why.contains("already being deleted"), "{why}");
}

#[tokio::test]
async fn a_deleted_pod_is_gone_and_a_missing_one_is_missing() {
    let Some(test) = Test::start().await else { return };
    test.namespace.pod("alone");
    let action = test.delete_pod("alone");
    let (_, health) = test.act_and_settle(&action, "one").await;
    assert!(health.healthy, "{health:?}");
    let missing = test.cluster.look(&action).await.unwrap_err();
    assert!(matches!(missing, Fault::NotFound { kind: "pod", .. }), "{missing:?}");
    assert!(!missing.uncertain());
}

#[tokio::test]
async fn another_pod_of_the_same_name_is_left_alone() {
    let Some(test) = Test::start().await else { return };
    test.namespace.pod("alone");
    let action = test.delete_pod("alone");
    let target = test.look(&action).await;
    test.namespace.kubectl(&["delete", "pod", "alone"]);
    test.namespace.pod("alone");
    let why = conflict(test.cluster.perform(&action, &target, "one", false).await);
    assert!(why.contains("replaced"), "{why}");
    assert!(test.namespace.has_pod("alone"));
}

#[tokio::test]
async fn a_dry_run_leaves_the_pod() {
    let Some(test) = Test::start().await else { return };
    test.namespace.pod("alone");
    let before = test.namespace.get(&["pod", "alone"]);
    let action = test.restart_pod("alone", true);
    let target = test.look(&action).await;
    let outcome = test.cluster.perform(&action, &target, "one", true).await.unwrap();
    assert_eq!(serde_json::to_value(outcome).unwrap()["dryRun"], json!(true));
    assert_eq!(test.namespace.get(&["pod", "alone"]), before);
}

#[tokio::test]
async fn a_name_that_would_lead_elsewhere_is_refused() {
    let Some(test) = Test::start().await else { return };
    let namespace = test.namespace.name();
    for (namespace, name) in [
        (namespace, "../secrets/x"),
        (namespace, "a/b"),
        (namespace, ""),
        ("a/../default", "x"),
        ("", "x"),
        (namespace, "x?y"),
    ] {
        let action = Action::DeletePod { namespace: namespace.to_owned(), pod_name: name.to_owned() };
        let refused = test.cluster.look(&action).await.unwrap_err();
        assert!(matches!(refused, Fault::Refused { .. }), "{name}: {refused:?}");
    }
}
