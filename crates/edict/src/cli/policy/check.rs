//! `edict policy check <folder>`

use super::super::failure::Failure;
use super::super::output::Output;
use super::folder::{PolicyFolder, Problem, check_folder};
use super::local::Local;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Holds `policy.yaml` and `code/function.py`
    #[arg(default_value = ".")]
    folder: PathBuf,
}

pub(crate) async fn run(args: &CheckArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    match check(&args.folder).await? {
        Ok(uri) => {
            out.done(&format!("{uri} is ready to push"), &serde_json::json!({"uri": uri, "problems": []}))
        }
        Err(problems) => {
            if out.is_json() {
                out.json(&serde_json::json!({"uri": null, "problems": problems}))?;
            }
            Err(refuse(&args.folder, &problems))
        }
    }
}

/// Everything that the server would check on registration; the policy's URI, or what is wrong.
async fn check(path: &Path) -> Result<Result<String, Vec<Problem>>, Failure> {
    let folder = match check_folder(path) {
        Ok(folder) => folder,
        Err(problems) => return Ok(Err(problems)),
    };
    let local = Local::start().await?;
    let checked = local.check(&folder).await;
    local.stop().await;
    Ok(checked.map(|(policy, _)| policy.policy_rule_uri))
}

/// The folder, or its problems as the verb's failure.
pub(super) fn checked(folder: &Path) -> Result<PolicyFolder, Failure> {
    check_folder(folder).map_err(|problems| refuse(folder, &problems))
}

pub(super) fn refuse(folder: &Path, problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::failed(format!("the policy in `{}` is not ready", folder.display()))
        .note("problems", lines.join("\n"))
}
