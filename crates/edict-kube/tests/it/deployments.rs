//! Deployments are scaled and restarted; what others change in between is seen.

use crate::support::{TIMEOUT, Test, conflict};
use edict_kube::{ACTION_ANNOTATION, Fault};
use edict_testbed::Mischief;
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn a_deployment_is_scaled_up_and_down() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    let (outcome, health) = test.act_and_settle(&test.scale("web", 3), "up").await;
    assert!(health.healthy, "{health:?}");
    assert_eq!((&outcome["replicasBefore"], &outcome["replicasAfter"]), (&json!(1), &json!(3)));
    let deployment = test.namespace.get(&["deployment/web"]);
    assert_eq!(deployment["status"]["availableReplicas"], json!(3));
    assert_eq!(deployment["metadata"]["annotations"][ACTION_ANNOTATION], json!("up"));
    let (outcome, health) = test.act_and_settle(&test.scale("web", 0), "down").await;
    assert!(health.healthy, "{health:?}");
    assert_eq!(outcome["replicasBefore"], json!(3));
    assert_eq!(test.namespace.pods_of("web"), Vec::<String>::new());
}

#[tokio::test]
async fn a_restarted_deployment_has_new_pods_only() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 2);
    let before = test.namespace.pods_of("web");
    let (outcome, health) = test.act_and_settle(&test.restart("web"), "one").await;
    assert!(health.healthy, "{health:?}");
    let after = test.namespace.pods_of("web");
    assert!(after.len() == 2 && after.iter().all(|pod| !before.contains(pod)), "{before:?} {after:?}");
    let template = &test.namespace.get(&["deployment/web"])["spec"]["template"];
    assert_eq!(
        template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"],
        outcome["restartedAt"]
    );
}

#[tokio::test]
async fn a_paused_deployment_is_not_restarted() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    test.namespace.kubectl(&["rollout", "pause", "deployment/web"]);
    let why = conflict(test.cluster.look(&test.restart("web")).await);
    assert!(why.contains("paused") && why.contains("kubectl rollout resume"), "{why}");
    let (_, health) = test.act_and_settle(&test.scale("web", 2), "one").await;
    assert!(health.healthy, "{health:?}");
}

#[tokio::test]
async fn a_missing_deployment_is_missing() {
    let Some(test) = Test::start().await else { return };
    for action in [test.scale("web", 1), test.restart("web"), test.rollback("web", None)] {
        let missing = test.cluster.look(&action).await.unwrap_err();
        assert!(matches!(missing, Fault::NotFound { kind: "deployment", .. }), "{missing:?}");
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    test.namespace.revise("web", "two");
    test.namespace.rolled_out("web");
    let version = || test.namespace.get(&["deployment/web"])["metadata"]["resourceVersion"].clone();
    // The controller may still write the last state of the rollout.
    let mut before = version();
    test.namespace.wait_for("a quiet deployment", || std::mem::replace(&mut before, version()) == before);
    for action in [test.scale("web", 5), test.restart("web"), test.rollback("web", None)] {
        let target = test.look(&action).await;
        let outcome = test.cluster.perform(&action, &target, "dry", true).await.unwrap();
        let outcome = serde_json::to_value(outcome).unwrap();
        assert_eq!(outcome["dryRun"], json!(true));
        if let edict_kube::Action::ScaleDeployment { .. } = action {
            assert_eq!(outcome["replicasAfter"], json!(5));
        }
        assert_eq!(version(), before, "{action:?}");
    }
}

#[tokio::test]
async fn what_the_api_server_does_not_take_is_refused_with_its_words() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 0);
    let refused = test.act(&test.scale("web", -1), "one").await.unwrap_err();
    assert!(
        matches!(&refused, Fault::Refused { message } if message.contains("spec.replicas")),
        "{refused:?}"
    );
    assert!(!refused.uncertain());
}

/// A change of the status makes a new version as well, and is no reason to give up.
#[tokio::test]
async fn a_change_by_somebody_else_is_a_conflict_and_one_of_the_status_is_not() {
    let Some((test, proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    let test = Arc::new(test);
    test.namespace.deployment("web", 1);
    test.namespace.revise("web", "two");
    test.namespace.rolled_out("web");
    let meanwhile = |patch: Value| {
        let test = Arc::clone(&test);
        Mischief::Meanwhile(Arc::new(move || {
            test.namespace.kubectl(&["patch", "deployment", "web", "-p", &patch.to_string()]);
        }))
    };
    let actions = [test.scale("web", 2), test.restart("web"), test.rollback("web", None)];
    for (n, action) in actions.iter().enumerate() {
        proxy.on("PATCH", "/deployments/web", 1, meanwhile(json!({"spec": {"minReadySeconds": n + 1}})));
        let conflict = conflict(test.act(action, "lost").await);
        assert!(conflict.contains("changed by somebody else"), "{conflict}");
        let deployment = test.namespace.get(&["deployment/web"]);
        assert_ne!(deployment["metadata"]["annotations"][ACTION_ANNOTATION], json!("lost"));
        assert_eq!(deployment["spec"]["replicas"], json!(1));
    }
    for (n, action) in actions.iter().enumerate() {
        // Labels are no part of what is wanted: the generation stays.
        proxy.on(
            "PATCH",
            "/deployments/web",
            1,
            meanwhile(json!({"metadata": {"labels": {"n": n.to_string()}}})),
        );
        test.act(action, &format!("done-{n}")).await.unwrap();
        proxy.behave();
        let annotations = &test.namespace.get(&["deployment/web"])["metadata"]["annotations"];
        assert_eq!(annotations[ACTION_ANNOTATION], json!(format!("done-{n}")));
    }
}
