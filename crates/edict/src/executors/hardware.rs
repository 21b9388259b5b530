//! What this machine has, in the shape that executor records use. Memory, swap and storage are in MB.

use edict_client::records::{Labels, Object};
use edict_kube::Node;
use serde_json::json;
use sysinfo::{Disk, Disks, MemoryRefreshKind, Networks, RefreshKind, System};

const MB: u64 = 1_000_000;

/// The machine's name.
pub(crate) fn host_name() -> String {
    System::host_name().unwrap_or_else(|_| "localhost".to_owned())
}

/// Reads the machine's hardware; `labels` are what its owner says of it. What the platform does not tell counts as 0.
/// `max_replicas` is told with it.
pub(crate) fn info(labels: &Labels, max_replicas: u32) -> Object {
    let (memory, swap) =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::everything()))
            .map_or((0, 0), |system| (system.total_memory() / MB, system.total_swap() / MB));
    let vcpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (disks, size) = Disks::new_with_refreshed_list()
        .map_or((0, 0), |disks| (disks.len(), disks.iter().map(Disk::total_space).sum::<u64>() / MB));
    let interfaces = Networks::new_with_refreshed_list().map_or(0, |networks| networks.len());
    let machine = json!({
        "id": host_name(),
        "vcpus": {"count": vcpus},
        "memory": memory,
        "swap": swap,
        "storage": {"disks": disks, "size": size},
        "network": {"interfaces": interfaces, "txBandwidth": 0, "rxBandwidth": 0},
    });
    let mut info = machine.as_object().cloned().unwrap_or_default();
    let mut node = info.clone();
    node.insert("labels".to_owned(), json!(labels));
    info.insert("max_replicas".to_owned(), max_replicas.into());
    info.insert("nodes".to_owned(), json!({"count": 1, "nodeData": [node]}));
    info
}

/// The same of a cluster's nodes. How many replicas there may be is for the cluster to say.
pub(crate) fn of_nodes(nodes: &[Node]) -> Object {
    let data: Vec<_> = nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.name,
                "vcpus": {"count": whole(node.cpus)},
                "memory": node.memory_mb,
                "labels": node.labels,
            })
        })
        .collect();
    let info = json!({
        "id": host_name(),
        "vcpus": {"count": whole(nodes.iter().map(|node| node.cpus).sum())},
        "memory": nodes.iter().map(|node| node.memory_mb).sum::<u64>(),
        "nodes": {"count": nodes.len(), "nodeData": data},
    });
    info.as_object().cloned().unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
fn whole(cpus: f64) -> u64 {
    cpus as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_machine_is_described() {
        let labels = Labels::from([("zone".to_owned(), "a".to_owned())]);
        let info = Value::Object(info(&labels, 64));
        assert!(info["vcpus"]["count"].as_u64().unwrap() >= 1);
        assert!(info["memory"].as_u64().unwrap() > 100);
        assert_eq!(info["nodes"]["nodeData"][0]["memory"], info["memory"]);
        assert_eq!(info["nodes"]["nodeData"][0]["labels"], json!({"zone": "a"}));
    }
}
