//! What goes wrong between Edict and the API server is told apart, and whether a change may have happened.

use crate::support::{TIMEOUT, Test};
use edict_kube::{ACTION_ANNOTATION, Cluster, ConnectError, Fault};
use edict_testbed::Mischief;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn an_api_server_that_is_down_is_unavailable_and_nothing_was_sent() {
    let Some((test, mut proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    test.namespace.deployment("web", 1);
    let action = test.scale("web", 2);
    let target = test.look(&action).await;
    proxy.down().await;
    let looked = test.cluster.look(&action).await.unwrap_err();
    let performed = test.cluster.perform(&action, &target, "one", false).await.unwrap_err();
    for fault in [looked, performed] {
        assert!(
            matches!(&fault, Fault::Unavailable { message, .. } if message.contains("refused")),
            "{fault:?}"
        );
        assert!(!fault.uncertain());
    }
    // It needs nothing to go on but the API server.
    proxy.up().await;
    test.cluster.perform(&action, &target, "one", false).await.unwrap();
    assert_eq!(test.namespace.get(&["deployment/web"])["spec"]["replicas"], json!(2));
}

#[tokio::test]
async fn a_connection_that_ends_leaves_a_change_uncertain_and_a_look_not() {
    let Some((test, proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    test.namespace.deployment("web", 1);
    test.namespace.pod("alone");
    for (stamp, mischief, done) in
        [("before", Mischief::CutBefore, false), ("after", Mischief::CutAfter, true)]
    {
        for action in [test.scale("web", 1), test.delete_pod("alone")] {
            let target = test.look(&action).await;
            proxy.on("GET", "/web", 1, mischief.clone());
            proxy.on("PATCH", "/web", 1, mischief.clone());
            proxy.on("DELETE", "/alone", 1, mischief.clone());
            let fault = test.cluster.perform(&action, &target, stamp, false).await.unwrap_err();
            assert!(matches!(fault, Fault::Unavailable { .. }) && fault.uncertain(), "{fault:?}");
            proxy.behave();
        }
        let annotations = &test.namespace.get(&["deployment/web"])["metadata"]["annotations"];
        assert_eq!(annotations[ACTION_ANNOTATION] == json!(stamp), done);
        assert_eq!(!test.namespace.has_pod("alone"), done);
        proxy.on("GET", "/web", 1, mischief);
        let fault = test.cluster.look(&test.scale("web", 1)).await.unwrap_err();
        assert!(matches!(fault, Fault::Unavailable { .. }) && !fault.uncertain(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_api_server_that_hangs_or_is_late_is_a_timeout() {
    let Some((test, proxy)) = Test::with_proxy(Duration::from_secs(2)).await else { return };
    test.namespace.deployment("web", 1);
    let action = test.scale("web", 1);
    let target = test.look(&action).await;
    for (stamp, mischief) in [("hang", Mischief::Hang), ("late", Mischief::Late(Duration::from_secs(60)))] {
        proxy.on("GET", "/deployments/web", 1, mischief.clone());
        let looked = test.cluster.look(&action).await.unwrap_err();
        assert!(matches!(looked, Fault::Timeout { .. }) && !looked.uncertain(), "{looked:?}");
        proxy.on("PATCH", "/deployments/web", 1, mischief);
        let performed = test.cluster.perform(&action, &target, stamp, false).await.unwrap_err();
        assert!(matches!(performed, Fault::Timeout { .. }) && performed.uncertain(), "{performed:?}");
    }
    let annotations = &test.namespace.get(&["deployment/web"])["metadata"]["annotations"];
    assert_eq!(annotations[ACTION_ANNOTATION], json!("late"));
}

/// A proxy on the way answers without a body of Kubernetes' own; kube-rs would send it again by itself.
#[tokio::test]
async fn answers_of_every_kind_are_told_apart_and_nothing_is_sent_twice() {
    let Some((test, proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    test.namespace.deployment("web", 1);
    let action = test.scale("web", 2);
    let target = test.look(&action).await;
    let perform = async |status: u16, retry_after: Option<&'static str>, body: serde_json::Value| {
        let body = body.as_str().map_or(body.to_string(), str::to_owned);
        proxy.on("PATCH", "/deployments/web", 1, Mischief::Answer(status, retry_after, body));
        let before = proxy.seen().len();
        let fault = test.cluster.perform(&action, &target, "one", false).await.unwrap_err();
        let seen = proxy.seen();
        assert_eq!(
            seen[before..].iter().filter(|request| request.starts_with("PATCH")).count(),
            1,
            "{seen:?}"
        );
        fault
    };
    let busy = perform(429, Some("7"), json!("Too many requests, please try again later.")).await;
    assert_eq!(busy, Fault::Busy { retry_after: Duration::from_secs(7) });
    let status = json!({"kind": "Status", "status": "Failure", "reason": "TooManyRequests", "code": 429,
        "message": "later", "details": {"retryAfterSeconds": 9}});
    assert_eq!(perform(429, None, status).await, Fault::Busy { retry_after: Duration::from_secs(9) });
    for code in [500, 502, 503, 504] {
        let fault = perform(code, None, json!("<html>broken</html>")).await;
        assert!(matches!(fault, Fault::Unavailable { .. }) && fault.uncertain(), "{code}: {fault:?}");
    }
    let status = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "admission webhook \"no.example.com\" denied the request: not today"});
    let refused = perform(403, None, status).await;
    assert!(matches!(&refused, Fault::Refused { message } if message.contains("not today")), "{refused:?}");
    proxy.on("PATCH", "/deployments/web", 1, Mischief::Answer(500, None, String::new()));
    let dry = test.cluster.perform(&action, &target, "one", true).await.unwrap_err();
    assert!(matches!(dry, Fault::Unavailable { .. }) && !dry.uncertain(), "{dry:?}");
    let strange = perform(200, None, json!("hello")).await;
    assert!(matches!(&strange, Fault::Unavailable { .. }) && strange.uncertain(), "{strange:?}");
    let elsewhere = perform(404, None, json!("404 page not found")).await;
    assert!(matches!(elsewhere, Fault::Refused { .. }), "{elsewhere:?}");
    assert_eq!(test.namespace.get(&["deployment/web"])["spec"]["replicas"], json!(1));
}

/// Conflicts are tried again only while nothing that matters has changed, and not for ever.
#[tokio::test]
async fn conflicts_without_end_are_given_up() {
    let Some((test, proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    test.namespace.deployment("web", 1);
    let status =
        json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "again"});
    proxy.on("PATCH", "/deployments/web", usize::MAX, Mischief::Answer(409, None, status.to_string()));
    let fault = test.act(&test.scale("web", 2), "one").await.unwrap_err();
    assert!(matches!(&fault, Fault::Conflict { why } if why.contains("changes all the time")), "{fault:?}");
    assert!(!fault.uncertain());
}

#[tokio::test]
async fn a_configuration_that_leads_nowhere_says_so() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kubeconfig");
    let connect = async |path: Option<&Path>| Cluster::connect(path, TIMEOUT).await.err().unwrap();
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
        assert!(matches!(connect(None).await, ConnectError::NotConfigured));
    }
    assert!(matches!(connect(Some(&file)).await, ConnectError::Invalid(_)));
    for text in ["", "a: [", r#"{"current-context": "x"}"#, r#"{"clusters": 3}"#] {
        std::fs::write(&file, text).unwrap();
        assert!(matches!(connect(Some(&file)).await, ConnectError::Invalid(_)), "{text}");
    }
}

/// Whoever asks for an action may read what keeps it from being done, and no more.
#[tokio::test]
async fn errors_hold_no_secrets_and_no_paths() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = |user: serde_json::Value| {
        json!({"current-context": "x", "users": [{"name": "x", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:9"}}]})
    };
    let exec = |script: &str| {
        config(json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": ["-c", script]}}))
    };
    let file = |name: &str| config(json!({"client-certificate": path(name), "client-key": path(name)}));
    let cases = [
        ("broken: [\n  token: s3cr3t\n bad".to_owned(), "no kubeconfig in YAML"),
        (exec("echo s3cr3t; echo s3cr3t >&2; exit 3").to_string(), "ended with exit status: 3"),
        (exec("echo s3cr3t").to_string(), "printed none"),
        (config(json!({"tokenFile": path("s3cr3t")})).to_string(), "the token file cannot be read"),
        (config(json!({"token": "s3cr3t\n"})).to_string(), "characters that no request can carry"),
        (file("s3cr3t").to_string(), "No such file"),
    ];
    let kubeconfig = folder.path().join("kubeconfig");
    for (text, expected) in cases {
        std::fs::write(&kubeconfig, &text).unwrap();
        let error = Cluster::connect(Some(&kubeconfig), TIMEOUT).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("s3cr3t") && !error.contains(&path("")), "{text}: {error}");
    }
    let error = Cluster::connect(Some(&folder.path().join("none")), TIMEOUT).await.err().unwrap().to_string();
    assert!(error.contains("cannot be read") && !error.contains(&path("")), "{error}");
}

/// An API server that another authority vouches for is not talked to.
#[tokio::test]
async fn a_certificate_of_somebody_else_is_refused() {
    let Some(test) = Test::start().await else { return };
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(test.namespace.kubeconfig()).unwrap()).unwrap();
    config["clusters"][0]["cluster"].as_object_mut().unwrap().remove("certificate-authority-data");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, config.to_string()).unwrap();
    let cluster = Cluster::connect(Some(&file), TIMEOUT).await.unwrap();
    let fault = cluster.look(&test.scale("web", 1)).await.unwrap_err();
    assert!(
        matches!(&fault, Fault::Unavailable { message, .. } if message.contains("certificate")),
        "{fault:?}"
    );
}
