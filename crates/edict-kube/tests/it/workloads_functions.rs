//! Functions as Deployments of a real cluster.

use crate::workloads_support::{Executor, SERVE, function, open_with};
use edict_kube::{Autoscale, Cache, Fault, ProblemKind};
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn a_function_is_made_rolled_scaled_and_removed() {
    let Some(executor) = Executor::start().await else { return };
    let before = executor.objects();
    let mut wanted = function("funcA", SERVE, 2);
    let seen = executor.serve(&wanted).await;
    assert!(seen.exists && seen.problem.is_none(), "{seen:?}");
    assert!(seen.pods.iter().all(|pod| pod.ip.is_some() && pod.node.is_some() && pod.problem.is_none()));
    assert_eq!(executor.workloads.functions(), ["funcA"]);
    // Another edition takes the place of this one, pod by pod.
    wanted.edition = "e2".to_owned();
    let rolled = executor.serve(&wanted).await;
    let old = |uid: &String| seen.pods.iter().any(|pod| pod.uid == *uid);
    assert!(!rolled.pods.iter().any(|pod| old(&pod.uid)));
    // So does another secret.
    wanted.secret.insert("TOKEN".to_owned(), "other".to_owned());
    executor.workloads.put_function(&wanted).await.unwrap();
    executor
        .until("all are replaced", || {
            let pods = executor.workloads.function("funcA").pods;
            pods.len() == 2 && !pods.iter().any(|pod| rolled.pods.iter().any(|old| old.uid == pod.uid))
        })
        .await;
    wanted.replicas = 1;
    assert_eq!(executor.serve(&wanted).await.pods.len(), 1);
    executor.workloads.remove_function("funcA").await.unwrap();
    assert!(executor.workloads.functions().is_empty() && !executor.workloads.function("funcA").exists);
    executor.clean(&before);
    executor.workloads.remove_function("funcA").await.unwrap();
}

#[tokio::test]
async fn nothing_is_sent_when_nothing_has_changed() {
    let Some((executor, proxy)) = Executor::with_proxy().await else { return };
    let wanted = function("f", SERVE, 1);
    executor.serve(&wanted).await;
    executor.workloads.put_function(&wanted).await.unwrap();
    let asked = proxy.seen().len();
    for _ in 0..5 {
        executor.workloads.put_function(&wanted).await.unwrap();
    }
    assert_eq!(proxy.seen().len(), asked, "{:?}", proxy.seen());
}

#[tokio::test]
async fn what_somebody_deletes_or_scales_is_put_back() {
    let Some(executor) = Executor::start().await else { return };
    let wanted = function("f", SERVE, 1);
    executor.serve(&wanted).await;
    let name = executor.get("deployments")["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    executor.namespace.kubectl(&["scale", "deployment", &name, "--replicas=3"]);
    executor.until("it is scaled", || executor.workloads.function("f").desired == 3).await;
    executor.workloads.put_function(&wanted).await.unwrap();
    executor.until("it is scaled back", || executor.workloads.function("f").desired == 1).await;
    for kind in ["deployment", "service"] {
        let uid = || executor.get(&format!("{kind}/{name}"))["metadata"]["uid"].clone();
        let before = uid();
        executor.namespace.kubectl(&["delete", kind, &name]);
        // It is put back as soon as it is seen to be gone.
        let mut put = Ok(());
        for _ in 0..50 {
            put = executor.workloads.put_function(&wanted).await;
            if executor.namespace.command(&["get", kind, &name]).output().unwrap().status.success() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        put.unwrap();
        assert_ne!(uid(), before);
    }
    executor.serve(&wanted).await;
}

#[tokio::test]
async fn an_autoscaled_function_keeps_the_number_that_it_has() {
    let Some(executor) = Executor::start().await else { return };
    let mut wanted = function("f", SERVE, 1);
    executor.serve(&wanted).await;
    wanted.autoscale = Some(Autoscale { min: 2, max: 4, target_percent: 70, up_window: 11, down_window: 22 });
    assert_eq!(executor.serve(&wanted).await.desired, 2);
    let scaler = &executor.get("horizontalpodautoscalers.v2beta2.autoscaling")["items"][0];
    let behavior = &scaler["spec"]["behavior"];
    assert_eq!(behavior["scaleUp"]["stabilizationWindowSeconds"], json!(11), "{scaler}");
    assert_eq!(behavior["scaleDown"]["stabilizationWindowSeconds"], json!(22));
    assert_eq!(behavior["scaleUp"]["policies"].as_array().unwrap().len(), 2);
    assert_eq!(scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], json!(70));
    // What the autoscaler chose stays, also when another edition is rolled out.
    let name = scaler["metadata"]["name"].as_str().unwrap();
    executor.namespace.kubectl(&["scale", "deployment", name, "--replicas=3"]);
    executor.until("it is scaled", || executor.workloads.function("f").desired == 3).await;
    wanted.edition = "e2".to_owned();
    assert_eq!(executor.serve(&wanted).await.desired, 3);
    if let Some(rule) = &mut wanted.autoscale {
        (rule.max, rule.up_window) = (2, 33);
    }
    assert_eq!(executor.serve(&wanted).await.desired, 2);
    let scaler = &executor.get("horizontalpodautoscalers.v2beta2.autoscaling")["items"][0];
    assert_eq!(scaler["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"], json!(33));
    wanted.autoscale = None;
    assert_eq!(executor.serve(&wanted).await.desired, 1);
    executor.namespace.wait_for("the autoscaler is gone", || {
        executor.get("horizontalpodautoscalers")["items"].as_array().unwrap().is_empty()
    });
}

#[tokio::test]
async fn why_a_replica_does_not_serve_is_said() {
    let Some(executor) = Executor::start().await else { return };
    let words = r#"echo '{"code": "policy_failed", "message": "no"}'; exit 1"#;
    let crashing = function("crashing", words, 1);
    let mut elsewhere = function("elsewhere", SERVE, 1);
    elsewhere.node_selector.insert("disk".to_owned(), "huge".to_owned());
    executor.workloads.put_function(&crashing).await.unwrap();
    executor.workloads.put_function(&elsewhere).await.unwrap();
    let problem =
        |name: &str| executor.workloads.function(name).pods.iter().find_map(|pod| pod.problem.clone());
    executor
        .until("the words", || problem("crashing").is_some_and(|it| it.message.ends_with("\"no\"}")))
        .await;
    executor.until("the scheduler's", || problem("elsewhere").is_some()).await;
    assert_eq!(problem("crashing").unwrap().kind, ProblemKind::Crashed);
    assert_eq!(problem("elsewhere").unwrap().kind, ProblemKind::Unschedulable);
    executor
        .until("it is started again", || executor.workloads.function("crashing").pods[0].restarts > 0)
        .await;
    // With a place it comes to be.
    elsewhere.node_selector.clear();
    executor.serve(&elsewhere).await;
    executor.namespace.kubectl(&["create", "quota", "few", "--hard=pods=2"]);
    executor.namespace.wait_for("the quota", || executor.get("quota/few")["status"]["hard"].is_object());
    elsewhere.replicas = 3;
    executor.workloads.put_function(&elsewhere).await.unwrap();
    let quota = || executor.workloads.function("elsewhere").problem;
    executor.until("the quota's", || quota().is_some_and(|it| it.kind == ProblemKind::Quota)).await;
    executor.workloads.remove_function("crashing").await.unwrap();
    executor.workloads.remove_function("elsewhere").await.unwrap();
}

#[tokio::test]
async fn a_pod_is_deleted_by_its_uid_and_replaced() {
    let Some(executor) = Executor::start().await else { return };
    let wanted = function("f", SERVE, 1);
    let pod = executor.serve(&wanted).await.pods.remove(0);
    executor.workloads.delete_pod(&pod.name, "another").await.unwrap();
    assert!(executor.namespace.has_pod(&pod.name));
    executor.workloads.delete_pod(&pod.name, &pod.uid).await.unwrap();
    executor.until("it leaves", || !executor.workloads.function("f").pods.contains(&pod)).await;
    let next = executor.serve(&wanted).await.pods.remove(0);
    assert_ne!(next.uid, pod.uid);
    executor.workloads.delete_pod(&pod.name, &pod.uid).await.unwrap();
    executor.namespace.pod("theirs");
    let uid = executor.get("pod/theirs")["metadata"]["uid"].as_str().unwrap().to_owned();
    let fault = executor.workloads.delete_pod("theirs", &uid).await.unwrap_err();
    assert!(matches!(fault, Fault::Conflict { .. }), "{fault}");
}

#[tokio::test]
async fn a_function_of_somebody_else_is_left_alone() {
    let Some(executor) = Executor::start().await else { return };
    let wanted = function("f", SERVE, 1);
    executor.workloads.put_function(&wanted).await.unwrap();
    let name = executor.get("deployments")["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    executor.workloads.remove_function("f").await.unwrap();
    executor.namespace.deployment(&name, 1);
    let uid = executor.get(&format!("deployment/{name}"))["metadata"]["uid"].clone();
    let fault = executor.workloads.put_function(&wanted).await.unwrap_err();
    assert!(matches!(&fault, Fault::Conflict { why } if why.contains(&name)), "{fault}");
    let fault = executor.workloads.remove_function("f").await.unwrap_err();
    assert!(matches!(fault, Fault::Conflict { .. }), "{fault}");
    assert_eq!(executor.get(&format!("deployment/{name}"))["metadata"]["uid"], uid);
}

/// Settings that are gone leave nothing behind, although they were there when the objects were made.
#[tokio::test]
async fn a_changed_setting_replaces_what_was_there() {
    let Some(executor) = Executor::start().await else { return };
    let mut wanted = function("f", SERVE, 1);
    wanted.secret.insert("MORE".to_owned(), "x".to_owned());
    wanted.node_selector.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    let shared = open_with(&executor, |options| {
        options.cache = Cache::Node("/var/tmp/edict-test-cache".to_owned());
        options.env.insert("GONE".to_owned(), "x".to_owned());
    });
    let shared: Arc<_> = shared.await;
    shared.put_function(&wanted).await.unwrap();
    executor.until("it is seen", || executor.workloads.function("f").exists).await;
    drop(shared);
    wanted.secret.remove("MORE");
    wanted.node_selector.clear();
    executor.serve(&wanted).await;
    let deployment = &executor.get("deployments")["items"][0];
    let spec = &deployment["spec"]["template"]["spec"];
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 2, "{spec}");
    assert!(
        spec["nodeSelector"]["kubernetes.io/os"].is_null() && !spec.to_string().contains("GONE"),
        "{spec}"
    );
    let secret = executor.get(&format!("secret/{}", deployment["metadata"]["name"].as_str().unwrap()));
    assert_eq!(secret["data"].as_object().unwrap().len(), 1, "{secret}");
}
