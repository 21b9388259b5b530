//! A policy's folder: `policy.yaml` and `code/function.py`.

use crate::policies::record::check_name;
use edict_client::records::{Object, Policy};
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;
use std::fmt;
use std::path::{Path, PathBuf};

/// Fields of a policy that `policy.yaml` does not hold: the folder's code, and what the server says.
const NOT_IN_FILE: [&str; 6] =
    ["code", "policy_rule_uri", "code_digest", "created_at", "updated_at", "revision"];

/// A folder that can be run or pushed.
#[derive(Debug)]
pub(crate) struct PolicyFolder {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What `policy.yaml` says, as it goes to the server, but for `code`.
    pub(crate) record: Object,
    /// The same, typed; `code` is empty.
    pub(crate) policy: Policy,
}

/// Something that keeps a folder from being run or pushed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Problem {
    /// Relative to the folder.
    pub(crate) file: &'static str,
    /// Dotted path, if one field is at fault.
    pub(crate) field: Option<String>,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: `{field}` {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Reads a policy's folder, and lists everything that is wrong with it.
pub(crate) fn check_folder(path: &Path) -> Result<PolicyFolder, Vec<Problem>> {
    let mut problems = Vec::new();
    if !path.join("code/function.py").is_file() {
        let message = "is missing; it is where the class AIOSv1PolicyRule belongs".to_owned();
        problems.push(Problem { file: "code/function.py", field: None, message });
    }
    let read = std::fs::read_to_string(path.join("policy.yaml"))
        .map_err(|error| format!("cannot be read: {error}; `edict policy init` makes one"))
        .and_then(|text| parse(&text));
    let record = match read {
        Ok(record) => record,
        Err(message) => {
            problems.push(in_file(None, message));
            return Err(problems);
        }
    };
    problems.extend(record.keys().filter_map(|field| unknown(field)));
    problems.extend(["name", "version", "release_tag"].iter().filter_map(|field| bad_name(&record, field)));
    match typed(&record) {
        Ok(policy) if problems.is_empty() => Ok(PolicyFolder { path: path.to_owned(), record, policy }),
        Ok(_) => Err(problems),
        Err(problem) => {
            // What has been said about a field already, such as that it is missing, isn't said again.
            if !problems.iter().any(|other| other.field == problem.field) {
                problems.push(problem);
            }
            Err(problems)
        }
    }
}

fn in_file(field: Option<&str>, message: String) -> Problem {
    Problem { file: "policy.yaml", field: field.map(str::to_owned), message }
}

/// The parts of a URI as they are written: `version: 1.0` without quotes is a number for YAML, and 1.10 would
/// become 1.1.
#[derive(Deserialize)]
struct Names {
    name: Option<String>,
    version: Option<String>,
    release_tag: Option<String>,
}

fn parse(text: &str) -> Result<Object, String> {
    let readable =
        |error: serde_saphyr::Error| error.without_snippet().render_with_formatter(&UserMessageFormatter);
    let mut record: Object = serde_saphyr::from_str(text).map_err(readable)?;
    if let Ok(names) = serde_saphyr::from_str::<Names>(text) {
        let names = [("name", names.name), ("version", names.version), ("release_tag", names.release_tag)];
        for (field, name) in names {
            if let Some(name) = name.filter(|_| record.get(field).is_some_and(|value| !value.is_null())) {
                record.insert(field.to_owned(), Value::String(name));
            }
        }
    }
    if let Some(Value::Array(tags)) = record.get("tags")
        && let Some(tags) = tags.iter().map(Value::as_str).collect::<Option<Vec<_>>>()
    {
        let tags = tags.join(",");
        record.insert("tags".to_owned(), Value::String(tags));
    }
    Ok(record)
}

fn unknown(field: &str) -> Option<Problem> {
    if field == "code" {
        let message = "does not belong here: the code is what is in the folder code/";
        return Some(in_file(Some(field), message.to_owned()));
    }
    if NOT_IN_FILE.contains(&field) {
        return Some(in_file(Some(field), "does not belong here: the server sets it".to_owned()));
    }
    let known = || Policy::known_fields().iter().filter(|known| !NOT_IN_FILE.contains(known));
    if known().any(|known| *known == field) {
        return None;
    }
    let nearest =
        known().max_by(|a, b| strsim::jaro_winkler(a, field).total_cmp(&strsim::jaro_winkler(b, field)));
    let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
    Some(in_file(Some(field), format!("is not a field of a policy{hint}")))
}

fn bad_name(record: &Object, field: &str) -> Option<Problem> {
    match record.get(field) {
        None | Some(Value::Null) => Some(in_file(Some(field), "is missing".to_owned())),
        Some(Value::String(name)) => {
            check_name(field, name).err().map(|error| in_file(None, error.message().to_owned()))
        }
        // Said with the other fields of a wrong type.
        Some(_) => None,
    }
}

fn typed(record: &Object) -> Result<Policy, Problem> {
    let mut record = record.clone();
    record.insert("code".to_owned(), Value::String(String::new()));
    serde_path_to_error::deserialize(Value::Object(record)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // A missing field has no path: its name is in the message.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        match (missing, path.as_str()) {
            (Some(field), _) => in_file(Some(field), "is missing".to_owned()),
            (None, ".") => in_file(None, message),
            (None, path) => in_file(Some(path), format!("does not fit: {message}")),
        }
    })
}
