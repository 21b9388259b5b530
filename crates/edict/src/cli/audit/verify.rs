//! `edict audit verify`: asks the server, or looks at an export without one.

use super::super::failure::Failure;
use super::super::output::{Output, show_if_slow, spinner};
use crate::audit::chain::Verifier;
use clap::Args;
use edict_client::Client;
use edict_client::records::{AuditEntry, AuditVerdict};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt, BufReader};

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Hash that was kept elsewhere, for example from an earlier `verify`; it must still be in the trail
    #[arg(long, value_name = "HASH")]
    pub(super) head: Option<String>,
    /// Look at a file that `export` wrote, without a server
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

pub(super) async fn online(head: Option<&str>, client: &Client, out: &mut Output<'_>) -> Result<(), Failure> {
    let bar = spinner("verifying the audit trail");
    let verdict = show_if_slow(&bar, client.verify_audit(head)).await?;
    print(&verdict, out)
}

pub(super) async fn offline(path: &Path, head: Option<String>, out: &mut Output<'_>) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("cannot read `{}`: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut lines = BufReader::new(file).lines();
    let mut verifier = Verifier::expecting(head);
    let mut number = 0_u64;
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        number += 1;
        let entry: AuditEntry = serde_json::from_str(&line).map_err(|error| {
            Failure::failed(format!(
                "`{}`, line {number} is no entry of an audit trail: {error}",
                path.display()
            ))
        })?;
        verifier.look(&entry);
    }
    print(&verifier.finish(None), out)
}

fn print(verdict: &AuditVerdict, out: &mut Output<'_>) -> Result<(), Failure> {
    if out.is_json() {
        out.json(verdict)?;
    } else if verdict.intact {
        let AuditVerdict { entries, first, head, .. } = verdict;
        out.line(&match entries {
            0 => "intact: there are no entries".to_owned(),
            _ => format!("intact: {entries} entries, {first} to {}\nhead {}", head.seq, head.hash),
        })?;
    }
    if verdict.intact {
        return Ok(());
    }
    let fault = |fault: &edict_client::records::AuditFault| {
        let action = fault.action_id.as_ref().map(|id| format!(" (action {id})")).unwrap_or_default();
        format!("entry {}{action} {}", fault.seq, fault.message)
    };
    let faults: Vec<String> = verdict.faults.iter().map(fault).collect();
    Err(Failure::failed("the audit trail was tampered with").note("faults", faults.join("\n")))
}
