//! What a cluster's nodes have.

use crate::call::Call;
use crate::{Cluster, Fault, Right};
use kube::api::ListParams;
use serde::Deserialize;
use std::collections::BTreeMap;

const MB: f64 = 1e6;

/// A node that takes pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Processors that pods may use.
    pub cpus: f64,
    /// Memory that pods may use, in MB.
    pub memory_mb: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    allocatable: BTreeMap<String, String>,
}

impl Cluster {
    /// The nodes that take pods. It takes the right to list nodes, which is one of the whole cluster.
    ///
    /// # Errors
    /// The API server does not show them.
    pub async fn nodes(&self) -> Result<Vec<Node>, Fault> {
        let right = Right { verb: "list", resource: "nodes".to_owned(), namespace: String::new() };
        let call = Call::custom(right, "/api/v1/nodes".to_owned(), |path| path.list(&ListParams::default()));
        let list: Option<List> = self.ask(call).await?;
        let items = list.map(|list| list.items).unwrap_or_default();
        let open = items.into_iter().filter(|item| !item.spec.unschedulable);
        Ok(open
            .map(|Item { metadata, status, .. }| {
                let has = |what: &str| status.allocatable.get(what).and_then(|text| quantity(text));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "casts of floats saturate"
                )]
                let memory_mb = (has("memory").unwrap_or_default() / MB) as u64;
                let cpus = has("cpu").unwrap_or_default();
                Node { name: metadata.name, cpus, memory_mb, labels: metadata.labels }
            })
            .collect())
    }
}

/// A quantity as Kubernetes writes it: `2`, `1500m`, `16Gi`, `1e3`.
fn quantity(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    // The exponent's letter is one, too, but digits follow it.
    let (number, unit) = text.split_at(digits.len());
    let factor = match unit {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        _ => return None,
    };
    number.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn quantities_are_read() {
        for (text, value) in
            [("2", 2.0), ("1500m", 1.5), ("16Gi", 17_179_869_184.0), ("1e3", 1000.0), ("0.5", 0.5)]
        {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for text in ["", "Mi", "x", "1Xi", "inf", "1 G"] {
            assert_eq!(quantity(text), None, "{text}");
        }
    }
}
