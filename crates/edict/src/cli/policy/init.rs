//! `edict policy init <folder>`

use super::super::failure::Failure;
use super::super::output::Output;
use crate::policies::record::check_name;
use clap::Args;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Every file of a new folder; `{{name}}` in them becomes the policy's name.
const FILES: [(&str, &str); 4] = [
    ("code/function.py", include_str!("../templates/function.py")),
    ("policy.yaml", include_str!("../templates/policy.yaml")),
    ("test_policy.py", include_str!("../templates/test_policy.py")),
    ("README.md", include_str!("../templates/README.md")),
];

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Where to; made if it isn't there
    pub(crate) folder: PathBuf,
    /// Name of the policy; the folder's name when left out
    #[arg(long)]
    pub(crate) name: Option<String>,
}

pub(crate) fn run(args: &InitArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let name = args.create()?;
    let folder = args.folder.display();
    let text = format!("made the policy `{name}` in {folder}\nnext: edict policy check {folder}");
    out.done(&text, &serde_json::json!({"name": name, "folder": args.folder}))
}

impl InitArgs {
    /// Writes the files and returns the policy's name. Nothing is written when one of them is there already.
    pub(crate) fn create(&self) -> Result<String, Failure> {
        let name = self.policy_name()?;
        for (file, _) in FILES {
            if self.folder.join(file).symlink_metadata().is_ok() {
                return Err(Failure::failed(format!(
                    "`{file}` exists in `{}`: nothing was written; choose an empty folder",
                    self.folder.display()
                )));
            }
        }
        for (file, template) in FILES {
            let path = self.folder.join(file);
            write_new(&path, &template.replace("{{name}}", &name))
                .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", path.display())))?;
        }
        Ok(name)
    }

    fn policy_name(&self) -> Result<String, Failure> {
        let name = match &self.name {
            Some(name) => name.clone(),
            // `.` and `..` have a name too, once they are resolved.
            None => std::path::absolute(&self.folder)
                .ok()
                .map(|path| fs::canonicalize(&path).unwrap_or(path))
                .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
                .unwrap_or_default(),
        };
        if check_name("name", &name).is_ok() {
            return Ok(name);
        }
        Err(Failure::usage(format!(
            "`{name}` cannot be a policy's name: it takes 1 to 128 of A-Z a-z 0-9 . _ -; choose one with --name"
        )))
    }
}

/// Never replaces a file, whoever made it since it was looked for.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create_new(path)?.write_all(text.as_bytes())
}
