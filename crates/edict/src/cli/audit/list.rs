//! `edict audit list`

use super::super::failure::Failure;
use super::super::output::Output;
use clap::Args;
use edict_client::records::{AuditLog, AuditStatus};
use edict_client::{AuditFilter, Client};

const TITLES: &[&str] = &["CREATED", "ACTION", "STATUS", "TARGET", "REQUESTED BY", "MS", "WHY", "ID"];

#[derive(Args)]
pub(super) struct ListArgs {
    /// Who asked for it
    #[arg(long, value_name = "NAME")]
    requested_by: Option<String>,
    /// For example `restart_pod`
    #[arg(long, value_name = "ACTION")]
    action_type: Option<String>,
    /// `pending`, `in_progress`, `completed`, `failed` or `rejected`
    #[arg(long, value_parser = status)]
    status: Option<AuditStatus>,
    /// The target's namespace
    #[arg(long)]
    namespace: Option<String>,
    /// `pod` or `deployment`
    #[arg(long, value_name = "TYPE")]
    resource_type: Option<String>,
    /// The target's name
    #[arg(long, value_name = "NAME")]
    resource_name: Option<String>,
    /// Only dry runs, or none
    #[arg(long, value_name = "BOOL")]
    dry_run: Option<bool>,
    /// Asked for at this time or later: `2026-01-31T12:00:00Z`, or how long ago: `24h`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Asked for before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many
    #[arg(long)]
    limit: Option<u32>,
    /// Only those behind this one in the list
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

pub(super) async fn run(args: ListArgs, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let found = client
        .audit_logs(&AuditFilter {
            requested_by: args.requested_by,
            action_type: args.action_type,
            status: args.status,
            namespace: args.namespace,
            resource_type: args.resource_type,
            resource_name: args.resource_name,
            dry_run: args.dry_run,
            since: args.since,
            until: args.until,
            limit: args.limit,
            before: args.before,
        })
        .await?;
    if out.is_json() {
        out.json(&found.records)?;
    } else {
        out.rows(TITLES, found.records.iter().map(row).collect())?;
    }
    if let Some(last) = found.records.last().filter(|_| found.has_more) {
        out.aside(&format!("there are more: --before {}", last.id));
    }
    Ok(())
}

fn row(log: &AuditLog) -> Vec<String> {
    let target = [&log.namespace, &log.resource_type, &log.resource_name];
    let target: Vec<&str> = target.into_iter().flatten().map(String::as_str).collect();
    let dry = if log.dry_run { " (dry run)" } else { "" };
    vec![
        log.created_at.clone(),
        format!("{}{dry}", log.action_type.as_deref().unwrap_or_default()),
        log.status.as_str().to_owned(),
        target.join("/"),
        log.requested_by.clone().unwrap_or_default(),
        log.execution_duration.map(|ms| ms.to_string()).unwrap_or_default(),
        log.error_code.clone().unwrap_or_default(),
        log.id.clone(),
    ]
}

fn status(text: &str) -> Result<AuditStatus, String> {
    AuditStatus::from_text(text).ok_or_else(|| {
        format!("`{text}` is none of `pending`, `in_progress`, `completed`, `failed`, `rejected`")
    })
}
