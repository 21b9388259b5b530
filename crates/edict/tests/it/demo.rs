//! The demo on a real cluster; the one without is part of what must pass before a change lands.

use crate::support::edict;

#[test]
fn a_deployment_is_healed_on_a_cluster() {
    let Some(cluster) = edict_testbed::Namespace::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let told = edict(folder.path())
        .args(["demo", "--cluster", "--image", cluster.image()])
        .env("KUBECONFIG", cluster.admin())
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{said}{complained}");
    for part in ["revision 2 -> 1, healthy again", "action_not_allowed", "verified: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
