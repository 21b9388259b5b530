//! What the credentials are good for.

use super::{Ground, kubeconfig, read};
use crate::support::{PATIENCE, TIMEOUT};
use edict_kube::{Cluster, ConnectError, Fault, Infra, Ingress, Right};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// A role, or cluster role, of these rights.
fn role(kind: &str, name: &str, rights: &[&Right]) -> Value {
    let rule = |right: &&Right| {
        let (resource, group) = right.resource.split_once('.').unwrap_or((&right.resource, ""));
        json!({"apiGroups": [group], "resources": [resource], "verbs": [right.verb]})
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "rules": rights.iter().map(rule).collect::<Vec<_>>(),
    })
}

/// The rights that are missing are those that it takes, and no others.
#[tokio::test]
async fn each_missing_right_is_named_and_with_them_all_goes_well() {
    let Some(mut ground) = Ground::in_the_namespace().await else { return };
    ground.infra.cache = Some(Infra::host_path(&ground.infra.mark));
    ground.infra.ingress = Some(Ingress { host: "x.example".to_owned(), ..Ingress::default() });
    assert_eq!(ground.cluster.missing_rights(&ground.infra).await.unwrap(), Vec::new());
    let little = Cluster::from_kubeconfig(&read(&ground.namespace.kubeconfig()), TIMEOUT).await.unwrap();
    let missing = little.missing_rights(&ground.infra).await.unwrap();
    let shown: Vec<_> = missing.iter().map(ToString::to_string).collect();
    let here = ground.namespace.name();
    for right in [
        format!("get namespaces in namespace `{here}`"),
        format!("create deployments.apps in namespace `{here}`"),
        format!("create daemonsets.apps in namespace `{here}`"),
        format!("create ingresses.networking.k8s.io in namespace `{here}`"),
        format!("create roles.rbac.authorization.k8s.io in namespace `{here}`"),
        format!("watch jobs.batch in namespace `{here}`"),
        format!("get pods/log in namespace `{here}`"),
    ] {
        assert!(shown.contains(&right), "{right}: {shown:#?}");
    }
    assert!(!shown.contains(&format!("patch deployments.apps in namespace `{here}`")), "it has this one");
    assert!(
        !shown.iter().any(|right| right.contains("nodes") || right.contains("clusterroles")),
        "{shown:#?}"
    );
    let fault = little.install(&ground.infra).await.unwrap_err();
    assert!(matches!(&fault, Fault::Forbidden { right } if right.resource == "namespaces"), "{fault:?}");

    let all: Vec<_> = missing.iter().collect();
    ground.namespace.create(&role("Role", "more", &all));
    let account = format!("--serviceaccount={here}:edict");
    ground.namespace.kubectl(&["create", "rolebinding", "more", "--role=more", &account]);
    let mut missing = missing.len();
    let end = std::time::Instant::now() + PATIENCE;
    while missing > 0 && std::time::Instant::now() < end {
        missing = little.missing_rights(&ground.infra).await.unwrap().len();
    }
    assert_eq!(little.missing_rights(&ground.infra).await.unwrap(), Vec::new());
    let before = ground.contents();
    little.install(&ground.infra).await.unwrap();
    ground.ready().await;
    // Without the right to see nodes, the pod says where it is.
    ground.infra.ingress = None;
    let address = little.infra_address(&ground.infra).await.unwrap();
    assert_eq!(address, ground.cluster.infra_address(&ground.infra).await.unwrap());
    assert!(address.is_some());
    let left = little.uninstall(&ground.infra.mark, &ground.infra.namespace, PATIENCE).await.unwrap();
    assert_eq!(left, Vec::new());
    assert_eq!(ground.contents(), before);
}

#[tokio::test]
async fn rights_in_the_whole_cluster_are_asked_for_where_they_are_needed() {
    let Some(mut ground) = Ground::new().await else { return };
    ground.infra.node_access = true;
    let little = Cluster::from_kubeconfig(&read(&ground.namespace.kubeconfig()), TIMEOUT).await.unwrap();
    let missing = little.missing_rights(&ground.infra).await.unwrap();
    let shown: Vec<_> = missing.iter().map(ToString::to_string).collect();
    for right in [
        "create clusterroles.rbac.authorization.k8s.io in the whole cluster",
        "delete clusterrolebindings.rbac.authorization.k8s.io in the whole cluster",
        "list nodes in the whole cluster",
    ] {
        assert!(shown.contains(&right.to_owned()), "{right}: {shown:#?}");
    }
    // One that may see namespaces, and not make them.
    let get = Right { verb: "get", resource: "namespaces".to_owned(), namespace: String::new() };
    let name = format!("test-{}", ground.infra.mark.key());
    ground.namespace.create(&role("ClusterRole", &name, &[&get]));
    let account = format!("--serviceaccount={}:edict", ground.namespace.name());
    let role = format!("--clusterrole={name}");
    ground.namespace.kubectl(&["create", "clusterrolebinding", &name, &role, &account]);
    let end = std::time::Instant::now() + PATIENCE;
    let mut shown = Vec::new();
    while !shown.contains(&"create namespaces in the whole cluster".to_owned()) {
        assert!(std::time::Instant::now() < end, "{shown:#?}");
        let missing = little.missing_rights(&ground.infra).await.unwrap();
        shown = missing.iter().map(ToString::to_string).collect();
    }
    let kinds = ["clusterrolebinding", "clusterrole"];
    kinds.map(|kind| ground.namespace.kubectl(&["delete", kind, &name]));
}

#[tokio::test]
async fn credentials_and_servers_that_are_no_good_are_told_apart() {
    let Some(ground) = Ground::in_the_namespace().await else { return };
    let good = kubeconfig(&ground.namespace);
    let with = |user: Value| {
        let mut config = good.clone();
        config["users"][0]["user"] = user;
        config
    };
    let fault = async |config: Value, timeout: Duration| {
        let cluster = Cluster::from_kubeconfig(&config, timeout).await.unwrap();
        let checked = cluster.missing_rights(&ground.infra).await.unwrap_err();
        let installed = cluster.install(&ground.infra).await.unwrap_err();
        assert_eq!(std::mem::discriminant(&checked), std::mem::discriminant(&installed));
        assert!(!checked.uncertain());
        checked
    };
    let unknown = fault(with(json!({"token": "s3cret"})), TIMEOUT).await;
    assert!(
        matches!(unknown, Fault::Unauthorized { .. }) && !unknown.to_string().contains("s3cret"),
        "{unknown:?}"
    );
    let unknown = fault(with(certificate()), TIMEOUT).await;
    assert!(matches!(unknown, Fault::Unauthorized { .. }), "{unknown:?}");

    let mut elsewhere = good.clone();
    elsewhere["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:1");
    let down = fault(elsewhere.clone(), TIMEOUT).await;
    assert!(matches!(&down, Fault::Unavailable { message, .. } if message.contains("refused")), "{down:?}");
    // Nobody answers at addresses of documentation.
    elsewhere["clusters"][0]["cluster"]["server"] = json!("https://192.0.2.1:6443");
    let silent = fault(elsewhere, Duration::from_secs(2)).await;
    assert!(matches!(silent, Fault::Timeout { .. } | Fault::Unavailable { .. }), "{silent:?}");
    let mut untrusted = good.clone();
    untrusted["clusters"][0]["cluster"].as_object_mut().unwrap().remove("certificate-authority-data");
    let untrusted = fault(untrusted, TIMEOUT).await;
    assert!(matches!(untrusted, Fault::Unavailable { .. }), "{untrusted:?}");

    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "true"}});
    for (field, user) in [("exec", exec), ("tokenFile", json!({"tokenFile": "/etc/passwd"}))] {
        let refused = Cluster::from_kubeconfig(&with(user), TIMEOUT).await.map(drop).unwrap_err();
        assert!(
            matches!(&refused, ConnectError::Invalid(why) if why.contains(&format!("`{field}`"))),
            "{refused}"
        );
    }
    let broken = with(json!({"client-certificate-data": "s3cret!", "client-key-data": "s3cret!"}));
    let refused = Cluster::from_kubeconfig(&broken, TIMEOUT).await.map(drop).unwrap_err();
    assert!(!refused.to_string().contains("s3cret"), "{refused}");
}

/// A client certificate that the cluster does not know.
fn certificate() -> Value {
    let folder = tempfile::TempDir::new().unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1"])
        .args(["-keyout", "key", "-out", "certificate"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let part = |name: &str| {
        let part = std::fs::read(folder.path().join(name)).unwrap();
        serde_json::to_value(k8s_openapi::ByteString(part)).unwrap()
    };
    json!({"client-certificate-data": part("certificate"), "client-key-data": part("key")})
}
