//! The demo on a real cluster; the one without is part of what must pass before a change lands.

use crate::support::{edict, pods};

#[test]
fn a_deployment_is_healed_and_an_executor_comes_and_goes_on_a_cluster() {
    let Some(cluster) = edict_testbed::Namespace::new() else { return };
    let Some((edict_image, _)) = pods::image(&cluster) else { return };
    let folder = tempfile::tempdir().unwrap();
    let told = edict(folder.path())
        .args(["demo", "--cluster", "--image", cluster.image(), "--edict-image", &edict_image])
        .env("KUBECONFIG", cluster.admin())
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{said}{complained}");
    for part in [
        "revision 2 -> 1, healthy again",
        "action_not_allowed",
        "verified: ",
        "all completed after",
        "2 of 2 replicas ready",
        "\"decision\":\"allow\"",
        "nothing is left after",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
