//! Figures over what there is, and over nothing.

use super::super::statistics::figures;
use super::{Trail, attempt, end};
use crate::error::{ApiError, Code};
use edict_client::records::AuditStatus;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn figures_count_actions_and_durations() {
    for trail in Trail::each().await {
        let empty = figures(&trail.store, 0, i64::MAX).await.unwrap();
        assert_eq!((empty["p95"][0].1, empty["spent"][0].1, empty.get("status")), (0, 0, None));
        for number in 1..=20 {
            let mut asked = attempt(&format!("api-{number}"));
            asked.requested_by = (number > 5).then(|| format!("user-{}", number % 2));
            asked.dry_run = number == 1;
            let id = trail.audit.open(&asked).await.unwrap();
            let execution = Duration::from_millis(number * 10);
            trail.audit.close(id, super::End { execution, ..end(AuditStatus::Completed) }).await.unwrap();
        }
        let why = ApiError::new(Code::ActionNotAllowed, "denied");
        trail.audit.reject(&attempt("api-1"), &why).await.unwrap();
        trail.audit.open(&attempt("api-2")).await.unwrap();
        let mut figures = figures(&trail.store, 0, i64::MAX).await.unwrap();
        for (what, number) in [("p95", 190), ("spent", 2100), ("timed", 20), ("denied", 1), ("dry_runs", 1)] {
            assert_eq!(figures[what][0].1, number, "{what}");
        }
        let text = |text: &str| Some(text.to_owned());
        figures.values_mut().for_each(|rows| rows.sort());
        let statuses = [(text("completed"), 20), (text("pending"), 1), (text("rejected"), 1)];
        assert_eq!(figures["status"], statuses);
        let names = [(None, 5), (text("ai-engine"), 2), (text("user-0"), 8), (text("user-1"), 7)];
        assert_eq!(figures["requested_by"], names);
        assert_eq!(figures["namespace"], [(text("default"), 22)]);
    }
}
