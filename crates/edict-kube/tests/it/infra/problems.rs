//! What keeps an executor from running is named.

use super::Ground;
use edict_kube::{Infra, InfraProblem, InfraState};
use serde_json::json;

async fn problem(ground: &Ground, is: impl Fn(&InfraProblem) -> bool) -> InfraProblem {
    ground.cluster.install(&ground.infra).await.unwrap();
    let found =
        ground.until(|state| matches!(state, InfraState::Waiting(Some(problem)) if is(problem))).await;
    let InfraState::Waiting(Some(problem)) = found else { panic!("{found:?}") };
    problem
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_and_all_of_it_goes() {
    let Some(mut ground) = Ground::new().await else { return };
    ground.infra.image = "127.0.0.1:1/none:1".to_owned();
    ground.infra.cache = Some(Infra::host_path(&ground.infra.mark));
    let problem = problem(&ground, |problem| problem.reason == "ErrImagePull").await;
    assert!(problem.message.contains("127.0.0.1:1/none:1"), "{problem}");
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
    assert_eq!(ground.contents(), Vec::<String>::new());
}

#[tokio::test]
async fn a_quota_and_a_crash_are_named() {
    let Some(mut ground) = Ground::in_the_namespace().await else { return };
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}}});
    ground.namespace.create(&quota);
    ground
        .namespace
        .wait_for("the quota", || ground.get("resourcequota/none")["status"]["hard"]["pods"] == json!("0"));
    let refused = problem(&ground, |problem| problem.reason == "FailedCreate").await;
    assert!(refused.message.contains("exceeded quota: none"), "{refused}");
    ground.kubectl(&["delete", "resourcequota", "none"]);

    ground.infra.command = Some(["sh", "-c", "echo no database here; exit 3"].map(str::to_owned).to_vec());
    let crashed = problem(&ground, |problem| problem.reason == "CrashLoopBackOff").await;
    assert_eq!(crashed.message, "exit code 3: no database here");

    ground.infra.cpu_request = "1000".to_owned();
    let unscheduled = problem(&ground, |problem| problem.reason == "Unschedulable").await;
    assert!(unscheduled.message.contains("Insufficient cpu"), "{unscheduled}");
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
}

/// Where pods may not see the node, as with the Pod Security profile `baseline`, the cache's are refused.
#[tokio::test]
async fn a_cache_that_is_not_allowed_is_named() {
    let Some(mut ground) = Ground::in_the_namespace().await else { return };
    ground.infra.cache = Some(Infra::host_path(&ground.infra.mark));
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"},
        "spec": {"hard": {"count/daemonsets.apps": "1", "pods": "1"}}});
    ground.namespace.create(&quota);
    ground
        .namespace
        .wait_for("the quota", || ground.get("resourcequota/one")["status"]["hard"]["pods"] == json!("1"));
    ground.namespace.pod("theirs");
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.kubectl(&["patch", "resourcequota", "one", "-p", r#"{"spec": {"hard": {"pods": "2"}}}"#]);
    // The executor's pod or the cache's: the other one is in the way.
    let found = ground.until(|state| matches!(state, InfraState::Waiting(Some(_)))).await;
    assert!(format!("{found:?}").contains("exceeded quota"), "{found:?}");
    ground.infra.cache = None;
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.ready().await;
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
}
