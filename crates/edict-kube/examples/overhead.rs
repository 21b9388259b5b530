//! What an action costs beside the API server's own time: `look` and `perform` of a scaling, against the same two requests
//! sent by kube-rs, taking turns. Prints one line of JSON, in milliseconds.
//!
//! `cargo run --release -p edict-kube --example overhead -- KUBECONFIG NAMESPACE DEPLOYMENT`; the deployment keeps its number
//! of pods.

#![allow(clippy::unwrap_used, reason = "an example that meets what it does not expect shall end there")]

use edict_kube::{Action, Cluster};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 200;

const PAUSE: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, namespace, name] = arguments.as_slice() else {
        println!("usage: overhead KUBECONFIG NAMESPACE DEPLOYMENT");
        std::process::exit(2);
    };
    let cluster = Cluster::connect(Some(Path::new(kubeconfig)), Duration::from_secs(10)).await.unwrap();
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(Client::try_from(config).unwrap(), namespace);
    let replicas = deployments.get(name).await.unwrap().spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let action =
        Action::ScaleDeployment { namespace: namespace.clone(), deployment_name: name.clone(), replicas };
    let (mut ours, mut direct) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // The deployment's controller writes after each change; a round is not to meet with that.
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        let target = cluster.look(&action).await.unwrap();
        cluster.perform(&action, &target, &format!("ours-{round}"), false).await.unwrap();
        ours.push(start.elapsed());
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        deployments.get(name).await.unwrap();
        let annotations = json!({"edict.dev/action": format!("direct-{round}")});
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}}));
        deployments.patch(name, &PatchParams::default(), &patch).await.unwrap();
        direct.push(start.elapsed());
    }
    let (ours, direct) = (median(ours), median(direct));
    println!(
        "{}",
        json!({"bench": "action overhead", "rounds": ROUNDS, "edict_kube_p50_ms": ours,
        "direct_p50_ms": direct, "added_ms": ours - direct})
    );
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}
