//! What `deploy/` gives to Prometheus and Grafana: rules that hold, and a dashboard whose every query finds something.

use crate::support::{Prometheus, TestApp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// Every metric that a text of queries names, as scraped (`…_bucket`, `…_sum` and `…_count` of histograms too).
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("edict_")).map(str::to_owned).collect()
}

#[test]
fn the_alerts_are_set_off_by_what_they_are_for() {
    let Some(promtool) = Prometheus::promtool() else { return };
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let checked = Command::new(&promtool).args(arguments).current_dir(deploy()).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{arguments:?}: {said}");
    }
}
