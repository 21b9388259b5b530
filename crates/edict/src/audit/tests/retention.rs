//! What is old goes, and the chain still tells.

use super::super::append::{Place, Tell};
use super::super::{chain, entries};
use super::{Trail, attempt, end};
use crate::store::Statement;
use edict_client::records::{AuditEntry, AuditStatus};
use serde_json::{Value, json};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread")]
async fn old_actions_go_and_what_is_left_is_verified_from_the_trim() {
    for trail in Trail::each().await {
        for number in 0..5 {
            trail.complete(&format!("old-{number}")).await;
        }
        trail.age(10).await;
        let kept = trail.verdict().await.head;
        trail.complete("young").await;
        assert_eq!(trail.audit.trim(DAY * 30).await.unwrap(), 0);
        assert_eq!(trail.audit.trim(DAY * 7).await.unwrap(), 15);
        let left = entries::batch(&trail.store, 0).await.unwrap();
        let numbers: Vec<i64> = left.iter().map(|entry| entry.seq).collect();
        assert_eq!(numbers, [16, 17, 18, 19]);
        let trim = &left[3];
        assert_eq!((trim.status.as_str(), trim.step), (chain::TRIMMED, 0));
        let evidence: Value = serde_json::from_str(trim.evidence.as_ref().unwrap()).unwrap();
        assert_eq!(evidence, json!({"through": 15, "hash": kept.hash, "entries": 15}));
        let verdict = trail.verdict().await;
        assert!(verdict.intact, "{verdict:?}");
        assert_eq!((verdict.entries, verdict.first, verdict.head.seq), (4, 16, 19));
        assert_eq!(trail.number("SELECT count(*) FROM action_audit_logs").await, 1, "a trim is no action");
        assert_eq!(trail.audit.trim(DAY * 7).await.unwrap(), 0);
        assert_eq!(trail.number("SELECT count(*) FROM audit_entries").await, 4, "no trim without a reason");
        // More than the trim says is missing, or what was there before is not what the trim saw.
        trail.unguard().await;
        trail.sql("DELETE FROM audit_entries WHERE seq = 16").await;
        let verdict = trail.verdict().await;
        assert_eq!((verdict.intact, verdict.faults[0].seq), (false, 16), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_never_split() {
    for trail in Trail::each().await {
        trail.complete("done").await;
        let open = trail.audit.open(&attempt("open")).await.unwrap();
        let late = trail.audit.open(&attempt("late")).await.unwrap();
        trail.complete("between").await;
        trail.age(10).await;
        assert!(trail.audit.close(late, end(AuditStatus::Failed)).await.unwrap());
        assert_eq!(trail.audit.trim(DAY).await.unwrap(), 3, "only what is before the one without an end");
        assert!(trail.audit.close(open, end(AuditStatus::Failed)).await.unwrap());
        assert_eq!(trail.audit.trim(DAY).await.unwrap(), 0, "their ends are young");
        for id in [open, late] {
            assert_eq!(entries::of_action(&trail.store, &id.to_string()).await.unwrap().len(), 2);
        }
        trail.age(10).await;
        assert_eq!(trail.audit.trim(DAY).await.unwrap(), 8, "the first trim is as old as they are");
        assert!(trail.verdict().await.intact);
        assert_eq!(trail.number("SELECT count(*) FROM audit_entries").await, 1);
    }
}

/// The database does not take a server's word for what is old.
#[tokio::test(flavor = "multi_thread")]
async fn a_trim_of_young_entries_removes_nothing() {
    for trail in Trail::each().await {
        let id = trail.complete("young").await;
        let entry = AuditEntry {
            action_id: id.to_string(),
            status: chain::TRIMMED.to_owned(),
            evidence: Some(json!({"through": 3, "hash": "", "entries": 3}).to_string()),
            ..AuditEntry::default()
        };
        trail.audit.append(entry, Place::Trim, None, &Tell::default()).await.unwrap();
        let sql = "DELETE FROM audit_entries WHERE seq <= 3";
        let refused = trail.store.execute(Statement::new(sql)).await.unwrap_err().to_string();
        assert!(refused.contains("audit trail"), "{refused}");
        assert_eq!(trail.number("SELECT count(*) FROM audit_entries").await, 4);
    }
}

/// Whoever is stopped between the trim and the removal leaves a trail that is whole, and the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_trim_that_was_interrupted_is_finished() {
    for trail in Trail::each().await {
        for number in 0..4 {
            trail.complete(&format!("old-{number}")).await;
        }
        trail.age(10).await;
        let (through, hash, entries) = trail.audit.boundary(crate::now_micros() - 1).await.unwrap().unwrap();
        let evidence = json!({"through": through, "hash": hash, "entries": entries});
        let entry = AuditEntry {
            action_id: "trim".to_owned(),
            status: chain::TRIMMED.to_owned(),
            evidence: Some(evidence.to_string()),
            ..AuditEntry::default()
        };
        trail.audit.append(entry, Place::Trim, None, &Tell::default()).await.unwrap();
        assert!(trail.verdict().await.intact);
        trail.sql("DELETE FROM audit_entries WHERE seq <= 5").await;
        let verdict = trail.verdict().await;
        assert!(verdict.intact && verdict.first == 6, "{verdict:?}");
        assert_eq!(trail.audit.trim(DAY).await.unwrap(), 7);
        assert!(trail.verdict().await.intact);
    }
}
