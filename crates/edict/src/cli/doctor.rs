//! `edict doctor`: what this machine offers, and what is missing.

use super::failure::Failure;
use super::output::Output;
use crate::execution;
use crate::settings::{Settings, SettingsArgs};
use crate::store::Store;
use clap::Args;
use serde::Serialize;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    /// `ok`, `weak` (works, with less protection) or `bad`.
    state: &'static str,
    detail: String,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, state: "ok", detail: detail.into() }
    }

    fn bad(what: &'static str, detail: impl ToString) -> Self {
        Self { what, state: "bad", detail: detail.to_string() }
    }
}

pub(crate) async fn run(args: DoctorArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let settings = args.settings.load().map_err(|error| Failure::usage(error.to_string()))?.settings;
    let mut findings = vec![protection(&settings), database(&settings).await];
    findings.extend(executor(&settings).await);
    let bad = findings.iter().filter(|finding| finding.state == "bad").count();
    if out.is_json() {
        out.json(&findings)?;
    } else {
        let rows = findings
            .into_iter()
            .map(|finding| vec![finding.what.into(), finding.state.into(), finding.detail]);
        out.rows(&["WHAT", "STATE", "DETAIL"], rows.collect())?;
    }
    if bad > 0 {
        return Err(Failure::failed(format!("{bad} of the above must be mended before Edict can run")));
    }
    Ok(())
}

fn protection(settings: &Settings) -> Finding {
    match settings.check_protection() {
        Err(error) => Finding::bad("protection", error),
        Ok(()) if settings.auth_tokens.is_empty() => {
            Finding::ok("protection", format!("open, on {} only", settings.bind))
        }
        Ok(()) => Finding::ok("protection", format!("tokens are demanded on {}", settings.bind)),
    }
}

async fn database(settings: &Settings) -> Finding {
    match Store::look(settings).await {
        Ok(version) => Finding::ok("database", version),
        Err(error) => Finding::bad("database", error),
    }
}

async fn executor(settings: &Settings) -> Vec<Finding> {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return vec![Finding::bad("temporary folder", error)],
    };
    let python = match execution::find_python(settings).await {
        Ok(python) => python,
        Err(error) => return vec![Finding::bad("python", error)],
    };
    let (major, minor, patch) = python.version;
    let detail = format!("{major}.{minor}.{patch} at {}", python.executable.display());
    let mut findings = vec![Finding::ok("python", detail)];
    match execution::start_tools(settings, &settings.data_dir.join("cache"), folder.path()).await {
        Ok((tools, _)) => {
            findings.push(match tools.environments.uv().await {
                Ok(uv) => Finding::ok("uv", uv.display().to_string()),
                Err(error) => {
                    Finding { what: "uv", state: "weak", detail: format!("no requirements: {error}") }
                }
            });
            findings.extend(sandbox(tools.runtime.sandbox_report()));
            tools.runtime.stop(std::time::Duration::from_secs(1)).await;
        }
        Err(error) => findings.push(Finding::bad("sandbox", error)),
    }
    findings
}

fn sandbox(report: &edict_runtime::SandboxReport) -> Vec<Finding> {
    let layer = |what, present: bool, detail: &str| {
        let state = if present { "ok" } else { "weak" };
        Finding {
            what,
            state,
            detail: if present { detail.to_owned() } else { format!("missing: {detail}") },
        }
    };
    let landlock = format!("Landlock version {}", report.landlock_abi);
    let mut findings = vec![
        layer("namespaces", report.namespaces, "policies see only their own files and processes"),
        layer("run namespaces", report.run_namespaces, "each run ends with everything it started"),
        layer(
            "own user",
            report.own_uid || report.user_namespace,
            "policies do not run as the server's user",
        ),
        layer("landlock", report.landlock_abi > 0, &landlock),
        layer("seccomp", report.seccomp, "system calls are filtered"),
    ];
    findings.extend(report.notes.iter().map(|note| Finding {
        what: "note",
        state: "weak",
        detail: note.clone(),
    }));
    findings
}
