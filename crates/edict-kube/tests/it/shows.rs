//! After a crash the cluster shows whether an action was done.

use crate::support::{TIMEOUT, Test};
use edict_kube::{Action, Done};
use edict_testbed::Mischief;

/// Before, the cluster says no; afterwards, yes. The evidence has been through the audit trail.
async fn shows_both(test: &Test, action: &Action, stamp: &str) {
    let target = test.look(action).await;
    let evidence = serde_json::from_str(&target.evidence().to_string()).unwrap();
    assert_eq!(test.cluster.shows(action, &evidence, stamp).await.unwrap(), Done::No, "{action:?}");
    test.cluster.perform(action, &target, stamp, false).await.unwrap();
    assert_eq!(test.cluster.shows(action, &evidence, stamp).await.unwrap(), Done::Yes, "{action:?}");
}

#[tokio::test]
async fn every_action_shows_whether_it_was_done() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 1);
    test.namespace.pod("alone");
    // To the number that it has: nothing changes but the stamp.
    shows_both(&test, &test.scale("web", 1), "same").await;
    shows_both(&test, &test.scale("web", 2), "scaled").await;
    shows_both(&test, &test.restart("web"), "restarted").await;
    test.namespace.rolled_out("web");
    shows_both(&test, &test.rollback("web", None), "rolled-back").await;
    test.namespace.rolled_out("web");
    shows_both(&test, &test.restart_pod(&test.namespace.pods_of("web")[0], false), "pod").await;
    shows_both(&test, &test.delete_pod("alone"), "alone").await;
}

#[tokio::test]
async fn an_answer_that_never_came_is_found_out() {
    let Some((test, proxy)) = Test::with_proxy(TIMEOUT).await else { return };
    test.namespace.deployment("web", 1);
    let action = test.scale("web", 2);
    for (stamp, mischief, done) in
        [("before", Mischief::CutBefore, Done::No), ("after", Mischief::CutAfter, Done::Yes)]
    {
        let target = test.look(&action).await;
        proxy.on("PATCH", "/deployments/web", 1, mischief);
        let fault = test.cluster.perform(&action, &target, stamp, false).await.unwrap_err();
        assert!(fault.uncertain(), "{fault:?}");
        assert_eq!(test.cluster.shows(&action, &target.evidence(), stamp).await.unwrap(), done);
    }
}

#[tokio::test]
async fn what_others_did_since_is_told_apart() {
    let Some(test) = Test::start().await else { return };
    test.namespace.deployment("web", 0);
    let action = test.scale("web", 2);
    let evidence = test.look(&action).await.evidence();
    // Ours was done, then another action: the stamp on the deployment is the other's, its controller has kept ours.
    test.act(&action, "ours").await.unwrap();
    test.namespace.rolled_out("web");
    test.act(&test.restart("web"), "other").await.unwrap();
    assert_eq!(test.cluster.shows(&action, &evidence, "ours").await.unwrap(), Done::Yes);
    // Nobody can say of one that left no trace.
    let unknown = test.cluster.shows(&action, &evidence, "never").await.unwrap();
    assert!(
        matches!(&unknown, Done::Unknown { why } if why.contains("changed by somebody else")),
        "{unknown:?}"
    );
    test.namespace.kubectl(&["delete", "deployment", "web"]);
    let unknown = test.cluster.shows(&action, &evidence, "never").await.unwrap();
    assert!(matches!(&unknown, Done::Unknown { why } if why.contains("was deleted")), "{unknown:?}");
    test.namespace.deployment("web", 0);
    let unknown = test.cluster.shows(&action, &evidence, "never").await.unwrap();
    assert!(matches!(&unknown, Done::Unknown { why } if why.contains("replaced")), "{unknown:?}");
}
