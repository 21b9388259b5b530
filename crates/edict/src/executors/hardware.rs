//! What this machine has, in the shape that executor records use. Memory, swap and storage are in MB.

use edict_client::records::Object;
use serde_json::{Value, json};
use sysinfo::{Disks, Networks, System};

const MB: u64 = 1_000_000;

/// Reads the machine's hardware.
pub(crate) fn info() -> Object {
    let mut system = System::new();
    system.refresh_memory();
    let vcpus = std::thread::available_parallelism().map_or(1, usize::from);
    let disks = Disks::new_with_refreshed_list();
    let storage = json!({
        "disks": disks.len(),
        "size": disks.iter().map(sysinfo::Disk::total_space).sum::<u64>() / MB,
    });
    let interfaces = Networks::new_with_refreshed_list().len();
    let network = json!({"interfaces": interfaces, "txBandwidth": 0, "rxBandwidth": 0});
    let (memory, swap) = (system.total_memory() / MB, system.total_swap() / MB);
    let name = System::host_name().unwrap_or_else(|| "localhost".to_owned());
    let machine = |id: &str| {
        json!({
            "id": id,
            "vcpus": {"count": vcpus},
            "memory": memory,
            "swap": swap,
            "storage": storage,
            "network": network,
        })
    };
    let mut info = match machine(&name) {
        Value::Object(fields) => fields,
        _ => Object::new(),
    };
    info.insert("nodes".to_owned(), json!({"count": 1, "nodeData": [machine(&name)]}));
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let info = Value::Object(info());
        assert!(info["vcpus"]["count"].as_u64().unwrap() >= 1);
        assert!(info["memory"].as_u64().unwrap() > 100);
        assert_eq!(info["nodes"]["nodeData"][0]["memory"], info["memory"]);
    }
}
