//! From `pending` to an end.

use super::super::{Audit, Limit, entries};
use super::{Trail, attempt, end};
use crate::error::{ApiError, Code};
use crate::store::Statement;
use edict_client::records::AuditStatus;
use futures::future::join_all;
use serde_json::json;
use serde_json::value::RawValue;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_three_entries_that_say_each_what_is_new() {
    for trail in Trail::each().await {
        let id = trail.complete("api-1").await.to_string();
        let entries = entries::of_action(&trail.store, &id).await.unwrap();
        let statuses: Vec<&str> = entries.iter().map(|entry| entry.status.as_str()).collect();
        assert_eq!(statuses, ["pending", "in_progress", "completed"]);
        assert_eq!(entries[0].action_params.as_deref(), Some(r#"{"namespace":"default","podName":"api-1"}"#));
        assert_eq!(entries[1].evidence.as_deref(), Some(r#"{"uid":"1"}"#));
        assert_eq!((entries[1].action_params.as_ref(), entries[1].kind.as_ref()), (None, None));
        assert_eq!(entries[2].result.as_deref(), Some(r#"{"pod":"new"}"#));
        assert_eq!(entries[2].execution_ms, Some(12));
        assert!(entries.iter().zip(1..).all(|(entry, number)| entry.seq == number && entry.step == number));
        let verdict = trail.verdict().await;
        assert!(verdict.intact, "{verdict:?}");
        assert_eq!((verdict.entries, verdict.head.seq), (3, 3));
        assert_eq!(verdict.head.hash, entries[2].hash);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_neither_begins_nor_ends_again() {
    for trail in Trail::each().await {
        let id = trail.audit.open(&attempt("api-1")).await.unwrap();
        assert!(trail.audit.close(id, end(AuditStatus::Failed)).await.unwrap());
        let begun = trail.audit.begin(id, "restart", None, &json!({})).await;
        assert_eq!(begun.unwrap_err().code(), Code::ShuttingDown);
        assert!(!trail.audit.close(id, end(AuditStatus::Completed)).await.unwrap());
        let id = trail.audit.open(&attempt("api-2")).await.unwrap();
        trail.audit.begin(id, "restart", None, &json!({})).await.unwrap().unwrap();
        assert!(trail.audit.begin(id, "restart", None, &json!({})).await.is_err(), "begun twice");
        assert_eq!(trail.number("SELECT count(*) FROM audit_entries").await, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_recorded_and_breaks_no_query() {
    for trail in Trail::each().await {
        let mut hostile = attempt(&"x\0\u{1b}[31m".repeat(1 << 20));
        hostile.action_type = "drop\0table'; --".to_owned();
        hostile.action_params =
            RawValue::from_string("{\"a\":\"\\u0000\\ud800\",\"b\":1e-20000}".to_owned()).unwrap();
        hostile.policy_decision =
            Some(RawValue::from_string(format!("[{}]", "[],".repeat(1 << 18) + "1")).unwrap());
        let why = ApiError::new(Code::InvalidAction, "there is no action `\0`");
        let id = trail.audit.reject(&hostile, &why).await.unwrap().to_string();
        let entry = entries::of_action(&trail.store, &id).await.unwrap().pop().unwrap();
        assert_eq!(entry.status, "rejected");
        assert_eq!(entry.action_type.as_deref(), Some("drop\\u{0}table'; --"));
        assert_eq!(entry.error_message.as_deref(), Some("there is no action `\\u{0}`"));
        assert_eq!(entry.action_params.as_deref(), Some(hostile.action_params.get()));
        assert!(entry.policy_decision.unwrap().len() < 2000);
        let shown = "SELECT count(*) FROM action_audit_logs WHERE \"actionParams\" IS NOT NULL AND \"policyDecision\" IS NOT NULL";
        assert_eq!(trail.number(shown).await, 1);
        assert!(trail.verdict().await.intact);
        hostile.action_params = RawValue::from_string(format!("\"{}\"", "a".repeat(1 << 17))).unwrap();
        assert_eq!(trail.audit.open(&hostile).await.unwrap_err().code(), Code::InvalidAction);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_exactly_across_servers() {
    for trail in Trail::each().await {
        let other = Audit::new(trail.store.clone(), &trail.settings);
        let limit = Limit { ttl: Duration::from_secs(300), max: 5 };
        let servers = [&trail.audit, &other];
        let attempts = (0..60).map(|number| {
            let audit = servers[number % 2];
            async move {
                let id = audit.open(&attempt(&format!("api-{number}"))).await.unwrap();
                audit.begin(id, "restart", Some(limit), &json!({})).await.unwrap()
            }
        });
        let begun = join_all(attempts).await;
        let refused: Vec<Duration> = begun.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 55);
        assert!(refused.iter().all(|wait| !wait.is_zero() && *wait <= limit.ttl), "{refused:?}");
        assert!(trail.audit.room("restart", limit).await.unwrap().is_some());
        assert_eq!(trail.audit.room("scale", limit).await.unwrap(), None);
        let none = Limit { max: 0, ..limit };
        assert_eq!(trail.audit.room("scale", none).await.unwrap(), Some(limit.ttl));
        // A dry run, or what has no limit, is not stopped and does not count.
        let id = trail.audit.open(&attempt("free")).await.unwrap();
        trail.audit.begin(id, "restart", None, &json!({})).await.unwrap().unwrap();
        assert_eq!(trail.number("SELECT count(*) FROM audit_entries WHERE kind = 'restart'").await, 5);
        assert!(trail.verdict().await.intact);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumped_stops_nobody_for_good() {
    for trail in Trail::each().await {
        let limit = Limit { ttl: Duration::from_secs(60), max: 1 };
        let id = trail.audit.open(&attempt("api-1")).await.unwrap();
        trail.audit.begin(id, "restart", Some(limit), &json!({})).await.unwrap().unwrap();
        assert!(trail.audit.room("restart", limit).await.unwrap().is_some());
        trail.unguard().await;
        for (minutes, free) in [(-2, true), (2, true), (0, false)] {
            let at = crate::now_micros() + minutes * 60_000_000;
            trail.sql(format!("UPDATE audit_entries SET at = {at}")).await;
            assert_eq!(
                trail.audit.room("restart", limit).await.unwrap().is_none(),
                free,
                "{minutes} minutes"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_left_behind_is_found_when_it_is_gone() {
    for trail in Trail::each().await {
        let gone = Audit::new(trail.store.clone(), &trail.settings);
        gone.renew().await.unwrap();
        assert!(gone.holds());
        let pending = gone.open(&attempt("api-1")).await.unwrap();
        let begun = gone.open(&attempt("api-2")).await.unwrap();
        gone.begin(begun, "restart", None, &json!({"uid": "7"})).await.unwrap().unwrap();
        let own = trail.audit.open(&attempt("api-3")).await.unwrap();
        if trail.is_postgres() {
            assert!(trail.audit.unfinished().await.unwrap().is_empty(), "it lives");
            gone.leave().await;
        }
        let left = trail.audit.unfinished().await.unwrap();
        let found: Vec<_> = left.iter().map(|left| (left.id, left.status)).collect();
        assert_eq!(found, [(pending, AuditStatus::Pending), (begun, AuditStatus::InProgress)]);
        assert_eq!(left[1].evidence, json!({"uid": "7"}));
        assert_eq!(left[1].attempt.action_params.get(), attempt("api-2").action_params.get());
        assert_eq!(left[1].attempt.ip_address, attempt("api-2").ip_address);
        for left in left {
            assert!(trail.audit.close(left.id, end(AuditStatus::Failed)).await.unwrap());
        }
        assert!(trail.audit.unfinished().await.unwrap().is_empty());
        assert!(!gone.close(begun, end(AuditStatus::Completed)).await.unwrap(), "too late");
        assert!(trail.audit.close(own, end(AuditStatus::Completed)).await.unwrap());
        assert_eq!(trail.number("SELECT count(*) FROM audit_unfinished").await, 0);
    }
}

/// The specification's query, and that it looks up what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn the_specifications_query_runs_and_uses_an_index() {
    const QUERY: &str = "SELECT * FROM action_audit_logs WHERE \"requestedBy\" = 'ai-engine' \
                         AND \"createdAt\" > NOW() - INTERVAL '1 hour' ORDER BY \"createdAt\" DESC";
    for trail in Trail::each().await.into_iter().filter(Trail::is_postgres) {
        let id = trail.complete("api-1").await;
        trail.audit.open(&attempt("api-2")).await.unwrap();
        let count = format!("SELECT count(*) FROM ({QUERY}) AS found");
        assert_eq!(trail.number(&count).await, 2);
        let types = format!(
            "SELECT pg_typeof(\"createdAt\")::text, pg_typeof(\"actionParams\")::text, status \
             FROM action_audit_logs WHERE id = '{id}' AND \"completedAt\" >= \"createdAt\" \
             AND \"actionParams\"->>'podName' = 'api-1' AND \"executionDuration\" = 12"
        );
        let types = trail.store.fetch::<(String, String, String)>(Statement::new(types)).await.unwrap();
        assert_eq!(
            types,
            [("timestamp with time zone".to_owned(), "jsonb".to_owned(), "completed".to_owned())]
        );
        trail.unguard().await;
        trail
            .sql(
                "INSERT INTO audit_entries (seq, at, prev_hash, step, action_id, status, instance, requested_by, hash) \
                 SELECT 10 + n, (extract(epoch FROM now()) * 1000000)::bigint - n * 1000000::bigint, '', \
                 n % 3 + 1, 'a' || n / 3, 'completed', '', \
                 CASE n / 3 % 100 WHEN 0 THEN 'ai-engine' ELSE 'someone' END, '' FROM generate_series(0, 299999) AS n",
            )
            .await;
        trail.sql("ANALYZE audit_entries").await;
        let plan = trail.store.fetch::<(String,)>(Statement::new(format!("EXPLAIN {QUERY}"))).await.unwrap();
        let plan: Vec<String> = plan.into_iter().map(|(line,)| line).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("audit_entries_requested") && !plan.contains("Seq Scan"), "{plan}");
    }
}
