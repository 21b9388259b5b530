//! Rollbacks leave what `kubectl rollout undo` leaves.

use crate::support::{Test, conflict};
use edict_kube::{ACTION_ANNOTATION, Fault};
use serde_json::{Value, json};

/// A deployment with three revisions, each with its own `REVISION` and its own cause; none has pods.
fn three_revisions(test: &Test, name: &str) {
    let mut record = test.namespace.deployment_record(name, 0);
    record["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": "first", "team": "blue"});
    test.namespace.create(&record);
    test.namespace.rolled_out(name);
    for (value, cause) in [("two", "second"), ("three", "third")] {
        test.namespace.kubectl(&[
            "annotate",
            "--overwrite",
            "deployment",
            name,
            &format!("kubernetes.io/change-cause={cause}"),
            &format!("only-{value}=yes"),
        ]);
        test.namespace.revise(name, value);
        test.namespace.rolled_out(name);
    }
}

/// What two deployments have in common when the same was done to both.
fn left(test: &Test, name: &str) -> Value {
    let mut deployment = test.namespace.get(&[&format!("deployment/{name}")]);
    let annotations = deployment["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove(ACTION_ANNOTATION);
    let text = json!({"annotations": annotations, "spec": deployment["spec"]}).to_string();
    serde_json::from_str(&text.replace(name, "NAME")).unwrap()
}

#[tokio::test]
async fn a_rollback_leaves_what_kubectl_leaves() {
    let Some(test) = Test::start().await else { return };
    three_revisions(&test, "ours");
    three_revisions(&test, "twin");
    for (revision, from, to) in [(None, 3, 2), (Some(1), 4, 1), (Some(0), 5, 4), (Some(3), 6, 3)] {
        let (outcome, health) = test.act_and_settle(&test.rollback("ours", revision), "one").await;
        assert!(health.healthy, "{health:?}");
        assert_eq!((&outcome["fromRevision"], &outcome["toRevision"]), (&json!(from), &json!(to)));
        let to = format!("--to-revision={}", revision.unwrap_or(0));
        test.namespace.kubectl(&["rollout", "undo", "deployment/twin", &to]);
        test.namespace.rolled_out("twin");
        assert_eq!(left(&test, "ours"), left(&test, "twin"), "{revision:?}");
    }
}

#[tokio::test]
async fn a_crash_looping_revision_is_healed() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    let healthy = test.namespace.get(&["deployment/web"])["spec"]["template"].clone();
    test.namespace.break_deployment("web");
    let (outcome, health) = test.act_and_settle(&test.rollback("web", None), "heal").await;
    assert!(health.healthy, "{health:?}");
    assert_eq!((&outcome["fromRevision"], &outcome["toRevision"]), (&json!(2), &json!(1)));
    let deployment = test.namespace.get(&["deployment/web"]);
    assert_eq!(deployment["spec"]["template"], healthy);
    assert_eq!(deployment["metadata"]["annotations"][ACTION_ANNOTATION], json!("heal"));
}

#[tokio::test]
async fn the_current_revision_is_a_conflict() {
    let Some(test) = Test::start().await else { return };
    three_revisions(&test, "web");
    let why = conflict(test.cluster.look(&test.rollback("web", Some(3))).await);
    assert!(why.contains("already is as in revision 3"), "{why}");
}

#[tokio::test]
async fn a_revision_that_is_gone_or_never_was_is_named() {
    let Some(test) = Test::start().await else { return };
    let mut record = test.namespace.deployment_record("web", 0);
    record["spec"]["revisionHistoryLimit"] = json!(1);
    test.namespace.create(&record);
    test.namespace.rolled_out("web");
    let none = test.cluster.look(&test.rollback("web", None)).await.unwrap_err();
    assert!(matches!(&none, Fault::NoRevision { why } if why.contains("no earlier revision")), "{none:?}");
    for value in ["two", "three"] {
        test.namespace.revise("web", value);
        test.namespace.rolled_out("web");
    }
    test.namespace.wait_for("the first revision's end", || {
        test.namespace.get(&["replicasets"])["items"].as_array().unwrap().len() == 2
    });
    for revision in [1, 99, -1, i64::MIN] {
        let gone = test.cluster.look(&test.rollback("web", Some(revision))).await.unwrap_err();
        let named = format!("has no revision {revision}; there are: 2, 3");
        assert!(matches!(&gone, Fault::NoRevision { why } if why.contains(&named)), "{gone:?}");
    }
}

#[tokio::test]
async fn a_paused_deployment_is_not_rolled_back() {
    let Some(test) = Test::start().await else { return };
    three_revisions(&test, "web");
    test.namespace.kubectl(&["rollout", "pause", "deployment/web"]);
    let why = conflict(test.cluster.look(&test.rollback("web", None)).await);
    assert!(why.contains("is paused and cannot be rolled back"), "{why}");
}

/// Replica sets that a selector finds and the deployment does not own are none of its revisions.
#[tokio::test]
async fn anothers_replica_set_is_no_revision() {
    let Some(test) = Test::start().await else { return };
    three_revisions(&test, "web");
    let labels = json!({"app": "web", "other": "yes"});
    test.namespace.create(&json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "foreign", "labels": labels, "annotations": {"deployment.kubernetes.io/revision": "9"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "controller": true,
                "uid": test.namespace.get(&["serviceaccount/edict"])["metadata"]["uid"]}]},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": test.namespace.pod_spec()}},
    }));
    let gone = test.cluster.look(&test.rollback("web", Some(9))).await.unwrap_err();
    assert!(matches!(gone, Fault::NoRevision { .. }), "{gone:?}");
}
