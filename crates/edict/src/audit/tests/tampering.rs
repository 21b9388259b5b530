//! What is done to the trail behind its back.

use super::super::chain::{self, Verifier};
use super::super::entries;
use super::{Trail, attempt};
use crate::store::Statement;
use edict_client::records::{AuditEntry, AuditHead};
use proptest::prelude::*;

/// Six entries of two actions.
async fn filled(trail: &Trail) -> Vec<AuditEntry> {
    trail.complete("api-1").await;
    trail.complete("api-2").await;
    assert!(trail.verdict().await.intact);
    entries::batch(&trail.store, 0).await.unwrap()
}

/// Does something, looks whether that is found in this entry, and puts back what was there.
async fn found(trail: &Trail, seq: i64, sql: &str) {
    trail.store.execute(Statement::new("CREATE TABLE before AS SELECT * FROM audit_entries")).await.unwrap();
    for statement in sql.split(';') {
        assert!(trail.sql(statement).await > 0, "{statement}");
    }
    let verdict = trail.verdict().await;
    assert!(!verdict.intact, "{sql}");
    assert!(verdict.faults.iter().any(|fault| fault.seq == seq), "{sql}: {verdict:?}");
    for fault in &verdict.faults {
        let there = entries::batch(&trail.store, fault.seq - 1).await.unwrap();
        let action = there.first().filter(|entry| entry.seq == fault.seq).map(|entry| &entry.action_id);
        assert!(fault.action_id.as_ref() == action || fault.action_id.is_none(), "{sql}: {verdict:?}");
    }
    trail.sql("DELETE FROM audit_entries").await;
    trail.sql("INSERT INTO audit_entries SELECT * FROM before").await;
    trail.sql("DROP TABLE before").await;
    assert!(trail.verdict().await.intact, "{sql}: put back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_any_column_is_found_in_its_row() {
    for trail in Trail::each().await {
        let entries = filled(&trail).await;
        trail.unguard().await;
        let whole = serde_json::to_value(&entries[3]).unwrap();
        for (column, value) in whole.as_object().unwrap() {
            let other = match column.as_str() {
                "seq" => "SET seq = 100".to_owned(),
                "dry_run" => "SET dry_run = NOT dry_run".to_owned(),
                "at" | "step" => format!("SET {column} = {column} + 7"),
                "execution_ms" => "SET execution_ms = 1".to_owned(),
                _ if value.is_null() => format!("SET {column} = ''"),
                _ => format!("SET {column} = {column} || ' '"),
            };
            found(&trail, 4, &format!("UPDATE audit_entries {other} WHERE seq = 4")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_go_come_or_move_are_found() {
    const COLUMNS: &str = "prev_hash, step, action_id, status, instance, action_type, hash";
    for trail in Trail::each().await {
        filled(&trail).await;
        trail.unguard().await;
        let swap = "UPDATE audit_entries SET seq = 100 WHERE seq = 2; UPDATE audit_entries SET seq = 2 WHERE seq = 5; \
                    UPDATE audit_entries SET seq = 5 WHERE seq = 100";
        let insert = format!(
            "INSERT INTO audit_entries (seq, at, {COLUMNS}) SELECT 7, at, prev_hash, 9, action_id, status, instance, \
             action_type, hash FROM audit_entries WHERE seq = 6"
        );
        for (seq, sql) in [
            (3, "DELETE FROM audit_entries WHERE seq = 3"),
            (1, "DELETE FROM audit_entries WHERE seq = 1"),
            (2, swap),
            (5, swap),
            (7, &insert),
            (6, "DELETE FROM audit_entries WHERE seq = 6"),
            (5, "DELETE FROM audit_entries WHERE seq > 4"),
            (1, "DELETE FROM audit_entries"),
        ] {
            found(&trail, seq, sql).await;
        }
    }
}

/// Who knows how hashes are made, and makes them for what was changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_written_anew_with_a_hash_of_its_own_is_found() {
    for trail in Trail::each().await {
        let entries = filled(&trail).await;
        trail.unguard().await;
        for seq in [2, 6] {
            let mut entry = entries[seq - 1].clone();
            entry.evidence = Some("{}".to_owned());
            entry.error_message = Some("nothing happened".to_owned());
            let hash = chain::hash(&entry);
            // The entry after it knows better; the last one is known by the trail's end.
            let place = if seq == 6 { 6 } else { seq + 1 };
            let sql = format!(
                "UPDATE audit_entries SET evidence = '{{}}', error_message = 'nothing happened', hash = '{hash}' \
                 WHERE seq = {seq}"
            );
            found(&trail, place.try_into().unwrap(), &sql).await;
        }
    }
}

/// What only a hash that was kept elsewhere shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_trail_cut_together_with_its_end_is_found_by_a_hash_kept_elsewhere() {
    for trail in Trail::each().await {
        let entries = filled(&trail).await;
        let kept = entries[5].hash.clone();
        assert!(trail.audit.verify(Some(kept.clone())).await.unwrap().intact);
        trail.unguard().await;
        trail.sql("DELETE FROM audit_entries WHERE seq > 4").await;
        trail.sql(format!("UPDATE audit_head SET seq = 4, hash = '{}'", entries[3].hash)).await;
        assert!(trail.verdict().await.intact, "nothing in the database tells");
        let verdict = trail.audit.verify(Some(kept)).await.unwrap();
        assert!(verdict.faults[0].message.contains("cut or written anew"), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_to_change_or_remove_entries() {
    for trail in Trail::each().await {
        filled(&trail).await;
        let mut statements = vec![
            "UPDATE audit_entries SET requested_by = 'nobody'",
            "UPDATE audit_entries SET seq = seq + 1",
            "DELETE FROM audit_entries",
            "DELETE FROM audit_entries WHERE seq = 6",
            "DELETE FROM audit_entries WHERE seq = 1",
            "UPDATE audit_head SET seq = 3",
            "UPDATE audit_head SET seq = 7",
            "DELETE FROM audit_head",
        ];
        if trail.is_postgres() {
            statements.extend([
                "TRUNCATE audit_entries",
                "TRUNCATE audit_head",
                "TRUNCATE audit_entries CASCADE",
            ]);
        } else {
            statements.push("INSERT OR REPLACE INTO audit_entries SELECT * FROM audit_entries WHERE seq = 3");
            statements.push("INSERT OR REPLACE INTO audit_head VALUES (1, 0, '')");
        }
        for sql in statements {
            let refused = trail.store.execute(Statement::new(sql)).await.unwrap_err().to_string();
            assert!(refused.contains("audit trail"), "{sql}: {refused}");
        }
        assert!(trail.verdict().await.intact);
    }
}

/// What a change to an entry may be.
#[derive(Debug, Clone)]
enum Deed {
    Change { entry: usize, column: usize, text: String },
    Rehash { entry: usize, text: String },
    Remove { entry: usize },
    Swap { one: usize, other: usize },
    Repeat { entry: usize, at: usize },
    Renumber { entry: usize },
}

fn deed() -> impl Strategy<Value = Deed> {
    let entry = || 0..12_usize;
    prop_oneof![
        (entry(), 0..24_usize, ".{0,5}").prop_map(|(entry, column, text)| Deed::Change {
            entry,
            column,
            text
        }),
        (entry(), ".{0,5}").prop_map(|(entry, text)| Deed::Rehash { entry, text }),
        entry().prop_map(|entry| Deed::Remove { entry }),
        (entry(), entry()).prop_map(|(one, other)| Deed::Swap { one, other }),
        (entry(), entry()).prop_map(|(entry, at)| Deed::Repeat { entry, at }),
        entry().prop_map(|entry| Deed::Renumber { entry }),
    ]
}

fn chain(length: i64) -> Vec<AuditEntry> {
    let mut entries: Vec<AuditEntry> = Vec::new();
    for seq in 1..=length {
        let prev_hash = entries.last().map_or(chain::GENESIS.to_owned(), |entry| entry.hash.clone());
        let mut entry = AuditEntry { seq, at: 5 * seq, prev_hash, step: 1, ..AuditEntry::default() };
        entry.action_id = format!("action-{seq}");
        entry.namespace = (seq % 2 == 0).then(|| "default".to_owned());
        entry.hash = chain::hash(&entry);
        entries.push(entry);
    }
    entries
}

fn commit(entries: &mut Vec<AuditEntry>, deed: Deed) {
    let length = entries.len();
    match deed {
        Deed::Change { entry, column, text } => {
            let mut columns = serde_json::to_value(&entries[entry % length]).unwrap();
            let (_, value) = columns.as_object_mut().unwrap().iter_mut().nth(column).unwrap();
            *value = match &value {
                serde_json::Value::Number(number) => (number.as_i64().unwrap() + text.len() as i64).into(),
                serde_json::Value::String(old) => format!("{old}{text}").into(),
                _ => text.into(),
            };
            // A column of another type cannot hold the text.
            if let Ok(changed) = serde_json::from_value(columns) {
                entries[entry % length] = changed;
            }
        }
        Deed::Rehash { entry, text } => {
            let entry = &mut entries[entry % length];
            entry.namespace = Some(text);
            entry.hash = chain::hash(entry);
        }
        Deed::Remove { entry } => drop(entries.remove(entry % length)),
        Deed::Swap { one, other } => entries.swap(one % length, other % length),
        Deed::Repeat { entry, at } => {
            let copy = entries[entry % length].clone();
            entries.insert(at % length, copy);
        }
        Deed::Renumber { entry } => entries[entry % length].seq += 1,
    }
}

proptest! {
    /// Whatever is done to a chain, in any number of steps: it is found unless it is as it was.
    #[test]
    fn tampering_is_always_found(length in 1..12_i64, deeds in prop::collection::vec(deed(), 1..6)) {
        let before = chain(length);
        let last = before.last().unwrap();
        let head = AuditHead { seq: last.seq, hash: last.hash.clone() };
        let mut after = before.clone();
        for deed in deeds {
            if !after.is_empty() {
                commit(&mut after, deed);
            }
        }
        let mut verifier = Verifier::default();
        after.iter().for_each(|entry| verifier.look(entry));
        let verdict = verifier.finish(Some(&head));
        prop_assert_eq!(verdict.intact, after == before, "{:?}", verdict);
        prop_assert_eq!(verdict.intact, verdict.faults.is_empty());
    }

    /// The text that PostgreSQL completes is the text that is hashed here.
    #[test]
    fn an_entrys_content_is_what_is_hashed_but_for_its_place(text in ".{0,20}", number: i64) {
        let mut entry = AuditEntry { result: Some(text.clone()), action_id: text, ..chain(3).pop().unwrap() };
        (entry.execution_ms, entry.hash) = (Some(number), String::new());
        let content = chain::content(&entry);
        let whole = format!(
            "{{\"seq\":{},\"at\":{},\"prev_hash\":\"{}\",\"step\":{},{}",
            entry.seq, entry.at, entry.prev_hash, entry.step, &content[1..]
        );
        use sha2::{Digest, Sha256};
        prop_assert_eq!(hex::encode(Sha256::digest(whole.as_bytes())), chain::hash(&entry));
    }
}

/// A trail on whose entries both sides of the boundary depend: hashed there, recomputed here.
#[tokio::test(flavor = "multi_thread")]
async fn what_postgresql_hashes_is_hashed_alike_here() {
    for trail in Trail::each().await {
        let mut odd = attempt("\u{1F600} \"quoted\" \\ back / slash \u{7f} \u{2028}");
        odd.requested_by = None;
        odd.dry_run = true;
        trail.audit.open(&odd).await.unwrap();
        assert!(trail.verdict().await.intact);
    }
}
