//! Comes, is changed, goes; and what is not its own stays as it is.

use super::{Ground, answers};
use crate::support::conflict;
use edict_kube::{Exposure, Fault, Infra, Ingress, Mark};
use serde_json::{Value, json};

fn everything(ground: &mut Ground) {
    let infra = &mut ground.infra;
    infra.cache = Some(Infra::host_path(&infra.mark));
    infra.node_access = true;
    infra.ingress = Some(Ingress { host: "x.example".to_owned(), ..Ingress::default() });
}

#[tokio::test]
async fn all_of_it_comes_and_goes_with_its_namespace() {
    let Some(mut ground) = Ground::new().await else { return };
    everything(&mut ground);
    assert_eq!(ground.cluster_wide(), Vec::<String>::new());
    let folder = ground.infra.cache.clone().unwrap().replace("/var/lib/edict", "/host");
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.ready().await;
    assert!(ground.on_the_node(&format!("[ $(stat -c %u:%g:%a {folder}) = 10001:10001:700 ]")));
    assert_eq!(ground.cluster_wide().len(), 3, "{:?}", ground.cluster_wide());
    let address = ground.cluster.infra_address(&ground.infra).await.unwrap().unwrap();
    assert_eq!(address.to_string(), "http://x.example");

    // Once more changes nothing.
    let (objects, pods) = (ground.contents(), ground.get("pods"));
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.ready().await;
    assert_eq!(ground.contents(), objects);
    let uids = |pods: &Value| {
        let pods = pods["items"].as_array().unwrap().clone();
        pods.into_iter().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(uids(&ground.get("pods")), uids(&pods));

    // What the executor makes, and leaves.
    let labels = ground.get("serviceaccount")["items"].as_array().unwrap().iter().find_map(|account| {
        (account["metadata"]["name"] == json!(ground.name())).then(|| account["metadata"]["labels"].clone())
    });
    let mut labels = labels.unwrap();
    labels["app.kubernetes.io/component"] = json!("function");
    let mut function = ground.namespace.deployment_record("fn-x", 1);
    function["metadata"]["labels"] = labels.clone();
    function["spec"]["template"]["metadata"]["labels"] = labels.clone();
    function["spec"]["selector"]["matchLabels"] = labels.clone();
    let mut job_pod = ground.namespace.pod_spec();
    job_pod["restartPolicy"] = json!("Never");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job-x", "labels": labels},
        "spec": {"template": {"metadata": {"labels": labels}, "spec": job_pod}}});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "job-x", "labels": labels}});
    for made in [function, job, secret] {
        let send = ["-n", &ground.infra.namespace, "create", "--validate=false", "-f", "-"];
        ground.namespace.send(&send, &made.to_string());
    }
    assert!(ground.on_the_node(&format!("mkdir {folder}/kept && echo x > {folder}/kept/x")));

    assert_eq!(ground.uninstall().await, Vec::<String>::new());
    assert_eq!(ground.cluster_wide(), Vec::<String>::new());
    assert_eq!(ground.contents(), Vec::<String>::new());
    assert!(ground.on_the_node(&format!("[ ! -e {folder} ]")));
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_namespace_that_was_there_stays_with_what_is_in_it() {
    let Some(mut ground) = Ground::in_the_namespace().await else { return };
    everything(&mut ground);
    ground.namespace.deployment("web", 1);
    ground.kubectl(&["create", "secret", "generic", "theirs"]);
    let before = ground.contents();
    let uid = ground.get(&format!("namespace/{}", ground.infra.namespace));
    ground.cluster.install(&ground.infra).await.unwrap();
    // It may go before it has come.
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
    assert_eq!(ground.contents(), before);
    let folder = ground.infra.cache.clone().unwrap().replace("/var/lib/edict", "/host");
    assert!(ground.on_the_node(&format!("[ ! -e {folder} ]")));
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.ready().await;
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
    assert_eq!(ground.contents(), before);
    assert_eq!(ground.get(&format!("namespace/{}", ground.infra.namespace)), uid);
    assert_eq!(ground.get("deployment/web")["status"]["readyReplicas"], json!(1));
}

#[tokio::test]
async fn a_namespace_of_its_own_stays_while_it_holds_something_else() {
    let Some(ground) = Ground::new().await else { return };
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.kubectl(&["create", "configmap", "theirs"]);
    let left = ground.uninstall().await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].contains(&format!("namespace `{}`", ground.infra.namespace)), "{left:?}");
    assert!(left[0].contains("configmaps `theirs`"), "{left:?}");
    assert!(ground.contents().contains(&"configmap/theirs".to_owned()));
    assert!(!ground.contents().iter().any(|name| name.contains(&ground.infra.mark.key())));
    ground.kubectl(&["delete", "configmap", "theirs"]);
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
    let gone = ground.namespace.kubectl(&["get", "namespace", "--ignore-not-found", &ground.infra.namespace]);
    assert_eq!(gone, "");
}

#[tokio::test]
async fn what_is_somebody_elses_is_not_touched() {
    let Some(mut ground) = Ground::in_the_namespace().await else { return };
    ground.infra.node_access = true;
    // The same executor's id in another policy system.
    let other = Mark { system: "other-system".to_owned(), ..ground.infra.mark.clone() };
    ground.cluster.install(&Infra { mark: other.clone(), ..ground.infra.clone() }).await.unwrap();
    let before = (ground.contents(), ground.get(&format!("serviceaccount/{}", ground.name())));
    let why = conflict(ground.cluster.install(&ground.infra).await);
    assert!(why.contains(&ground.name()) && why.contains("serviceaccounts"), "{why}");
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
    assert_eq!((ground.contents(), ground.get(&format!("serviceaccount/{}", ground.name()))), before);
    let fault = ground.cluster.infra_state(&ground.infra).await.unwrap_err();
    assert!(matches!(fault, Fault::NotFound { .. }), "{fault:?}");
    let left = ground.cluster.uninstall(&other, &ground.infra.namespace, crate::support::PATIENCE).await;
    assert_eq!(left.unwrap(), Vec::new());
    assert_eq!(ground.cluster_wide(), Vec::<String>::new());

    // A single object in the way.
    ground.kubectl(&["create", "service", "clusterip", &ground.name(), "--tcp=80"]);
    let why = conflict(ground.cluster.install(&ground.infra).await);
    assert!(why.contains("services"), "{why}");
    ground.uninstall().await;
    assert_eq!(ground.get(&format!("service/{}", ground.name()))["spec"]["type"], json!("ClusterIP"));
}

#[tokio::test]
async fn a_change_reaches_the_pod_and_what_is_no_longer_wanted_goes() {
    let Some(mut ground) = Ground::in_the_namespace().await else { return };
    everything(&mut ground);
    ground.infra.env.insert("EDICT_B".to_owned(), "2".to_owned());
    ground.infra.secret.insert("EDICT_INDEX_URL".to_owned(), "two".to_owned());
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.ready().await;
    let pod = |ground: &Ground| {
        let selector = ground.infra.mark.selector(Some("executor"));
        let pods: Value =
            serde_json::from_str(&ground.kubectl(&["get", "-o", "json", "pods", "-l", &selector])).unwrap();
        assert_eq!(pods["items"].as_array().unwrap().len(), 1);
        pods["items"][0].clone()
    };
    let before = pod(&ground);
    assert_eq!(before["spec"]["serviceAccountName"], json!(ground.name()));

    ground.infra.env.remove("EDICT_B");
    ground.infra.secret.remove("EDICT_INDEX_URL");
    ground.infra.secret.insert("EDICT_TOKEN".to_owned(), "new".to_owned());
    (ground.infra.ingress, ground.infra.cache, ground.infra.node_access) = (None, None, false);
    ground.cluster.install(&ground.infra).await.unwrap();
    ground.ready().await;
    let after = pod(&ground);
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    let env = after["spec"]["containers"][0]["env"].as_array().unwrap();
    let names: Vec<_> = env.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["EDICT_A", "EDICT_TOKEN", "EDICT_POD_NAMESPACE"]);
    let secret = ground.get(&format!("secret/{}", ground.name()));
    assert_eq!(secret["data"], json!({"EDICT_TOKEN": "bmV3"}));
    assert_eq!(ground.cluster_wide(), Vec::<String>::new());
    let contents = ground.contents();
    let gone = ["daemonset", "ingress"];
    assert!(!contents.iter().any(|name| gone.iter().any(|kind| name.starts_with(kind))), "{contents:?}");

    // By way of a node, and with another exposure.
    let address = ground.cluster.infra_address(&ground.infra).await.unwrap().unwrap();
    // Nodes learn of a new pod a moment later.
    ground.namespace.wait_for("an answer by way of the node", || answers(&address));
    ground.infra.exposure = Exposure::ClusterIp;
    ground.cluster.install(&ground.infra).await.unwrap();
    let address = ground.cluster.infra_address(&ground.infra).await.unwrap().unwrap();
    assert_eq!(address.host, format!("{}.{}.svc", ground.name(), ground.infra.namespace));
    ground.infra.exposure = Exposure::LoadBalancer;
    ground.cluster.install(&ground.infra).await.unwrap();
    // Nobody here gives addresses.
    assert_eq!(ground.cluster.infra_address(&ground.infra).await.unwrap(), None);
    assert_eq!(ground.uninstall().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_folder_that_is_somebody_elses_is_no_cache() {
    let Some(mut ground) = Ground::in_the_namespace().await else { return };
    let before = ground.contents();
    for path in ["/etc", "/var/lib/edict", "/var/lib/edict/../x", "/"] {
        ground.infra.cache = Some(path.to_owned());
        let fault = ground.cluster.install(&ground.infra).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::Refused { message } if message.contains(&format!("`{path}`"))),
            "{fault}"
        );
    }
    assert_eq!(ground.contents(), before);
}
