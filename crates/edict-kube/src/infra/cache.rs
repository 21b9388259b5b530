//! A folder on each node that jobs and functions share: made by a daemon set, and emptied by it in the end.
//!
//! Its pods do their work as root in a container that ends, with the capabilities for this and no others; what stays is a
//! container without rights that sleeps, and a new node gets its folder like the others.

use super::json::{at, with};
use super::manifests::{USER, confined, pulled_with, selected};
use super::state::cannot_begin;
use crate::{Cluster, Fault, Mark};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Where such folders are.
pub(super) const PARENT: &str = "/var/lib/edict";

/// What the daemon set and its pods are part of.
pub(super) const CACHE: &str = "cache";

/// The annotation of the daemon set with the folder's path.
const PATH: &str = "edict.dev/cache";

/// How long nodes have to empty their folders; one that is down would be waited for in vain.
const CLEANING: Duration = Duration::from_secs(120);

/// The folder may be there already: the kubelet makes it for a pod that came first.
const PREPARE: &str = r#"[ -d "$1" ] || mkdir -m 0700 "$1"; chown 10001:10001 "$1""#;
const CLEAN: &str = r#"rm -rf -- "$1""#;
/// As its first process it would not end without a handler.
const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

/// What the pods of the daemon set do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Prepare,
    Clean,
}

/// The folder, and with what it is made.
pub(super) struct Folder {
    pub(super) path: String,
    pub(super) image: String,
    pub(super) image_pull_secret: Option<String>,
}

/// Refuses a folder whose removal would take something else with it.
pub(super) fn check(path: &str) -> Result<(), Fault> {
    let name = path.strip_prefix(PARENT).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if name.chars().all(legal) && name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let message = format!("`{path}` cannot be the cache: name a folder right below `{PARENT}`");
    Err(Fault::Refused { message })
}

impl Folder {
    /// The daemon set.
    pub(super) fn manifest(&self, mark: &Mark, namespace: &str, stage: Stage) -> Value {
        let folder = format!("/host{}", self.path.strip_prefix(PARENT).unwrap_or_default());
        // To remove what belongs to the user of jobs and functions takes more than to make it.
        let (script, capabilities) = match stage {
            Stage::Prepare => (PREPARE, json!(["CHOWN"])),
            Stage::Clean => (CLEAN, json!(["DAC_OVERRIDE", "FOWNER"])),
        };
        let resources = json!({
            "requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"},
        });
        let container = |name: &str, command: Value| {
            json!({"name": name, "image": self.image, "imagePullPolicy": "IfNotPresent", "command": command,
                "resources": resources, "securityContext": confined(),
                "terminationMessagePolicy": "FallbackToLogsOnError"})
        };
        let root = json!({"runAsUser": 0, "runAsNonRoot": false, "capabilities": {"add": capabilities}});
        let works = with(
            container("folder", json!(["sh", "-ec", script, "sh", folder])),
            json!({"volumeMounts": [{"name": "host", "mountPath": "/host"}], "securityContext": root}),
        );
        let template = json!({
            "metadata": {"labels": mark.labels(CACHE)},
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 5,
                "securityContext": {
                    "runAsUser": USER, "runAsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"},
                },
                // A job may be sent to any node.
                "tolerations": [{"operator": "Exists"}],
                "initContainers": [works],
                "containers": [container("stays", json!(["sh", "-c", SLEEP]))],
                "volumes": [{"name": "host", "hostPath": {"path": PARENT, "type": "DirectoryOrCreate"}}],
            },
        });
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": name(mark), "namespace": namespace, "annotations": {PATH: self.path}},
            "spec": {
                "revisionHistoryLimit": 1,
                "selector": {"matchLabels": selected(mark, CACHE)},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
                "template": pulled_with(template, self.image_pull_secret.as_deref()),
            },
        })
    }

    /// As a daemon set of ours has it.
    fn of(daemon_set: &Value) -> Option<Self> {
        let text = |pointer: &str| Some(daemon_set.pointer(pointer)?.as_str()?.to_owned());
        let path = daemon_set.pointer("/metadata/annotations")?.get(PATH)?.as_str()?.to_owned();
        check(&path).ok()?;
        let image = text("/spec/template/spec/containers/0/image")?;
        let image_pull_secret = text("/spec/template/spec/imagePullSecrets/0/name");
        Some(Self { path, image, image_pull_secret })
    }
}

/// The daemon set, as far as it takes to find it.
pub(super) fn place(mark: &Mark, namespace: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name(mark), "namespace": namespace},
    })
}

fn name(mark: &Mark) -> String {
    format!("edict-{CACHE}-{}", mark.key())
}

impl Cluster {
    /// Removes the folder from the nodes. Returns where it may still be.
    pub(super) async fn clean_cache(
        &self,
        mark: &Mark,
        namespace: &str,
        deadline: Instant,
    ) -> Result<Option<String>, Fault> {
        let found = self.find(&place(mark, namespace)).await?.filter(|found| mark.is_on(found));
        let Some(found) = found.filter(|found| at(found, "/metadata/deletionTimestamp").is_null()) else {
            return Ok(None);
        };
        let Some(folder) = Folder::of(&found) else { return Ok(None) };
        let before = self.cache_pods(mark, namespace).await?;
        if is_nowhere(&before) {
            return Ok(None);
        }
        let changed = self.put(mark, CACHE, folder.manifest(mark, namespace, Stage::Clean)).await?;
        let generation = at(&changed, "/metadata/generation").as_i64().unwrap_or_default();
        let deadline = deadline.min(Instant::now() + CLEANING);
        loop {
            let now = self.find(&place(mark, namespace)).await?.unwrap_or_default();
            if is_done(&now, generation) {
                return Ok(None);
            }
            if Instant::now() >= deadline {
                break;
            }
            sleep(Duration::from_millis(500)).await;
        }
        let mut dirty = self.cache_pods(mark, namespace).await?;
        dirty.retain(|pod| !(cleans(pod) && has_worked(pod)));
        // Those were on their way when this began, and it came out that they cannot have made anything.
        if !before.iter().any(has_worked) && is_nowhere(&dirty) {
            return Ok(None);
        }
        let nodes = dirty.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref());
        let nodes = nodes.map(|node| format!("`{node}`")).collect::<Vec<_>>().join(", ");
        Ok(Some(format!("folder `{}` on the nodes {nodes}", folder.path)))
    }

    pub(super) async fn cache_pods(&self, mark: &Mark, namespace: &str) -> Result<Vec<Pod>, Fault> {
        let params = ListParams::default().labels(&mark.selector(Some(CACHE)));
        Ok(self.list::<Pod, Pod>(namespace, &params).await?.0)
    }
}

/// Whether every node has the daemon set's pod of this generation, and it has done its work.
fn is_done(daemon_set: &Value, generation: i64) -> bool {
    let number = |name: &str| at(daemon_set, &format!("/status/{name}")).as_i64().unwrap_or_default();
    let wanted = number("desiredNumberScheduled");
    number("observedGeneration") >= generation
        && number("updatedNumberScheduled") >= wanted
        && number("numberReady") >= wanted
}

/// Whether the container that works has ended well.
pub(super) fn has_worked(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut works = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    works.any(|works| {
        let ended = works.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code == 0)
    })
}

/// Whether no pod can have made a folder: its image cannot be pulled, or it is not allowed. Then there is nothing to remove,
/// and nothing to do it with.
pub(super) fn is_nowhere(pods: &[Pod]) -> bool {
    pods.iter().all(cannot_begin)
}

fn cleans(pod: &Pod) -> bool {
    let works = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let mut words = works.flat_map(|works| works.command.iter().flatten());
    words.any(|word| word == CLEAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_of_its_own_can_be_the_cache() {
        check(&crate::Infra::host_path(&Mark { system: "s-1".to_owned(), executor_id: "A_b".to_owned() }))
            .unwrap();
        for path in [
            "",
            "/",
            "/var/lib/edict",
            "/var/lib/edict/",
            "/var/lib/edict/..",
            "/var/lib/edict/a/b",
            "/etc",
            "x",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
