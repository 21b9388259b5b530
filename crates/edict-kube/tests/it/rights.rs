//! `deploy/rbac.yaml` lets Edict do what its actions need, and nothing else.

use crate::support::{TIMEOUT, Test};
use edict_kube::{Action, Cluster, Fault};
use edict_testbed::Namespace;
use serde_json::{Value, json};
use std::process::Command;

/// `kubectl` as Edict's service account.
fn as_edict(kubeconfig: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Every verb on every kind of object that the cluster has, asked of its authorizer: exactly the rules of the role.
#[test]
fn the_role_holds_exactly_what_is_documented() {
    let Some(namespace) = Namespace::new() else { return };
    let kubeconfig = namespace.kubeconfig();
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace.name()}});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), review.to_string()).unwrap();
    let path = file.path().display().to_string();
    let (_, said) = as_edict(&kubeconfig, &["create", "-o", "json", "-f", &path]);
    let review: Value = serde_json::from_str(&said).unwrap();
    let mut rights: Vec<String> = Vec::new();
    for rule in review["status"]["resourceRules"].as_array().unwrap() {
        // What every service account may: ask what it may.
        if rule["apiGroups"] == json!(["authorization.k8s.io"]) {
            continue;
        }
        for resource in rule["resources"].as_array().unwrap() {
            for verb in rule["verbs"].as_array().unwrap() {
                rights.push(format!("{} {}", verb.as_str().unwrap(), resource.as_str().unwrap()));
            }
        }
    }
    rights.sort();
    let expected = [
        "delete pods",
        "get daemonsets",
        "get deployments",
        "get jobs",
        "get pods",
        "get replicasets",
        "get replicationcontrollers",
        "get statefulsets",
        "list deployments",
        "list pods",
        "list replicasets",
        "patch deployments",
        "watch deployments",
        "watch pods",
    ];
    assert_eq!(rights, expected);
}

#[test]
fn whatever_else_is_tried_is_refused() {
    let Some(namespace) = Namespace::new() else { return };
    let kubeconfig = namespace.kubeconfig();
    namespace.deployment("web", 1);
    let pod = namespace.pods_of("web").remove(0);
    let here = namespace.name();
    let manifest =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new"}, "spec": namespace.pod_spec()});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest.to_string()).unwrap();
    let file = file.path().display().to_string();
    let attempts: [&[&str]; 14] = [
        &["-n", here, "get", "secrets"],
        &["-n", here, "get", "configmaps"],
        &["-n", here, "get", "serviceaccounts"],
        &["-n", here, "exec", &pod, "--", "true"],
        &["-n", here, "logs", &pod],
        &["-n", here, "create", "--validate=false", "-f", &file],
        &["-n", here, "delete", "deployment", "web"],
        &["-n", here, "delete", "replicasets", "--all"],
        &["-n", here, "patch", "pod", &pod, "-p", r#"{"metadata": {"labels": {"x": "y"}}}"#],
        &[
            "-n",
            here,
            "create",
            "rolebinding",
            "more",
            "--clusterrole=admin",
            "--serviceaccount=default:default",
        ],
        &["-n", "default", "get", "pods"],
        &["-n", "kube-system", "get", "deployments"],
        &["get", "pods", "--all-namespaces"],
        &["get", "nodes"],
    ];
    for attempt in attempts {
        let (done, said) = as_edict(&kubeconfig, attempt);
        assert!(!done && said.to_lowercase().contains("forbidden"), "{attempt:?}: {said}");
    }
    let (done, said) = as_edict(&kubeconfig, &["-n", here, "get", "pods"]);
    assert!(done && said.contains(&pod), "{said}");
    assert_eq!(namespace.get(&["deployment/web"])["status"]["availableReplicas"], json!(1));
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let Some(test) = Test::start().await else { return };
    let other = Action::DeletePod { namespace: "default".to_owned(), pod_name: "x".to_owned() };
    let fault = test.cluster.look(&other).await.unwrap_err();
    let Fault::Forbidden { right } = &fault else { panic!("{fault:?}") };
    assert_eq!((right.verb, right.resource.as_str(), right.namespace.as_str()), ("get", "pods", "default"));
    assert!(fault.to_string().contains("get pods in namespace `default`"), "{fault}");
    // Reading is allowed, changing is not.
    test.namespace.deployment("web", 1);
    let read_only = json!([{"op": "replace", "path": "/rules/1/verbs", "value": ["get", "list", "watch"]}]);
    let change = ["patch", "role", "edict", "--type=json", "-p", &read_only.to_string()];
    let action = test.scale("web", 2);
    let target = test.look(&action).await;
    test.namespace.kubectl(&change);
    test.namespace.wait_for("the change of the role", || {
        let allowed = ["auth", "can-i", "patch", "deployments", "--as"];
        let account = format!("system:serviceaccount:{}:edict", test.namespace.name());
        let answer = test.namespace.command(&[&allowed[..], &[&account]].concat()).output().unwrap();
        !answer.status.success()
    });
    let fault = test.cluster.perform(&action, &target, "one", false).await.unwrap_err();
    let Fault::Forbidden { right } = &fault else { panic!("{fault:?}") };
    assert_eq!((right.verb, right.resource.as_str()), ("patch", "deployments.apps"));
    assert!(!fault.uncertain());
}

/// A kind of controller that the role does not name.
#[tokio::test]
async fn a_controller_that_may_not_be_read_is_named() {
    let Some(test) = Test::start().await else { return };
    let mut record = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "child"}, "spec": test.namespace.pod_spec()});
    let account = test.namespace.get(&["serviceaccount/edict"]);
    record["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ServiceAccount", "name": "edict",
        "uid": account["metadata"]["uid"], "controller": true}]);
    test.namespace.create(&record);
    let fault = test.cluster.look(&test.restart_pod("child", false)).await.unwrap_err();
    assert!(fault.to_string().contains("get serviceaccounts in namespace"), "{fault}");
    test.cluster.look(&test.restart_pod("child", true)).await.unwrap();
}

#[tokio::test]
async fn credentials_that_are_no_longer_good_are_read_again() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.deployment("web", 1);
    namespace.kubectl(&["create", "secret", "generic", "lifetime"]);
    let folder = tempfile::TempDir::new().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    namespace.write_kubeconfig(&kubeconfig, None, &namespace.token(Some("lifetime")));
    let cluster = Cluster::connect(Some(&kubeconfig), TIMEOUT).await.unwrap();
    let action = Action::ScaleDeployment {
        namespace: namespace.name().to_owned(),
        deployment_name: "web".to_owned(),
        replicas: 2,
    };
    let target = cluster.look(&action).await.unwrap();
    // The token ends with what it is bound to.
    namespace.kubectl(&["delete", "secret", "lifetime"]);
    namespace
        .wait_for("the token's end", || !as_edict(&kubeconfig, &["-n", namespace.name(), "get", "pods"]).0);
    for fault in [
        cluster.look(&action).await.unwrap_err(),
        cluster.perform(&action, &target, "one", false).await.unwrap_err(),
    ] {
        assert!(matches!(fault, Fault::Unauthorized { .. }) && !fault.uncertain(), "{fault:?}");
    }
    // A renewed kubeconfig needs no restart.
    namespace.write_kubeconfig(&kubeconfig, None, &namespace.token(None));
    cluster.perform(&action, &target, "one", false).await.unwrap();
}
