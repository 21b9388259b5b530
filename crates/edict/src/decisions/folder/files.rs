//! Reading decision policies from files: a policy, a list of policies, or `{policies: […]}` in each, in YAML or JSON.

use edict_engine::{Policy, PolicyError};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{Spanned, UserMessageFormatter};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders within folders: a link to a folder above would lead around in circles.
const DEEPEST: usize = 16;
const MOST_FILES: usize = 100_000;
/// Bytes of all files together.
const LARGEST: u64 = 512 << 20;
/// Faults that one message tells of.
const LISTED: usize = 10;

/// A policy and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filed {
    pub(crate) policy: Policy,
    /// Relative to the folder.
    pub(crate) file: Arc<str>,
    /// Where the policy begins and where its fields are.
    lines: Lines,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Lines {
    start: u64,
    fields: BTreeMap<String, u64>,
}

/// What tells two states of a folder apart without reading the files.
pub(crate) type Look = Vec<(PathBuf, [u64; 4], [i64; 4])>;

impl Filed {
    /// File and line of a field.
    pub(crate) fn place(&self, field: &str) -> String {
        place(&self.file, self.lines.of(field))
    }
}

impl Lines {
    /// The line of a field, by its dotted path, or of the policy that lacks it.
    fn of(&self, field: &str) -> u64 {
        let first = field.split('.').next().unwrap_or_default();
        self.fields.get(first).copied().unwrap_or(self.start)
    }
}

fn place(file: &str, line: u64) -> String {
    format!("`{file}`, line {line}")
}

/// All policies of a folder, or of one file, by name.
///
/// # Errors
/// Everything that is wrong, each with file, line and field.
pub(crate) fn read(path: &Path) -> Result<Vec<Filed>, String> {
    let (mut policies, mut faults) = (Vec::new(), Vec::new());
    for (name, text) in texts(path)? {
        match parse(&name.into(), &text) {
            Ok(some) => policies.extend(some),
            Err(some) => faults.extend(some),
        }
    }
    policies.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
    for pair in policies.windows(2) {
        if let [one, other] = pair
            && one.policy.name == other.policy.name
        {
            let (name, first) = (crate::shorten(&one.policy.name), one.place("name"));
            faults.push(format!("{}: `name` is `{name}`, like that in {first}", other.place("name")));
        }
    }
    if faults.is_empty() { Ok(policies) } else { Err(listed(&faults)) }
}

/// The names (relative to the folder) and texts of all files.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn texts(path: &Path) -> Result<Vec<(String, String)>, String> {
    let files = list(path)?;
    let size: u64 = files.iter().map(|(_, metadata)| metadata.size()).sum();
    if size > LARGEST {
        return Err(format!("the files have {size} bytes together; at most {LARGEST} are read"));
    }
    let read = |(file, _): (PathBuf, Metadata)| {
        let name = file.strip_prefix(path).ok().filter(|name| !name.as_os_str().is_empty());
        let name = name.unwrap_or_else(|| Path::new(file.file_name().unwrap_or_default()));
        let name = name.to_string_lossy().into_owned();
        match fs::read_to_string(&file) {
            Ok(text) => Ok((name, text)),
            Err(error) => Err(format!("`{name}` cannot be read: {error}")),
        }
    };
    files.into_iter().map(read).collect()
}

/// What the folder looks like now.
///
/// # Errors
/// When it cannot be looked at.
pub(crate) fn look(path: &Path) -> Result<Look, String> {
    let seen = |(path, is): (PathBuf, Metadata)| {
        // The time of the last change of the file itself is set by the kernel: whoever writes cannot keep it.
        let times = [is.mtime(), is.mtime_nsec(), is.ctime(), is.ctime_nsec()];
        (path, [is.dev(), is.ino(), is.size(), u64::from(is.mode())], times)
    };
    Ok(list(path)?.into_iter().map(seen).collect())
}

/// The files that hold policies. Links are followed: a ConfigMap's files are links into a folder that is swapped.
fn list(path: &Path) -> Result<Vec<(PathBuf, Metadata)>, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("it cannot be read: {error}"))?;
    if metadata.is_file() {
        return Ok(vec![(path.to_path_buf(), metadata)]);
    }
    let mut found = Vec::new();
    walk(path, 0, &mut found).map_err(|(at, problem)| {
        let at = at.strip_prefix(path).ok().filter(|at| !at.as_os_str().is_empty());
        let at = at.map_or_else(|| "it".to_owned(), |at| format!("`{}`", at.display()));
        format!("{at} cannot be read: {problem}")
    })?;
    if found.is_empty() {
        // A folder that is not mounted looks the same, and its denies would be gone.
        return Err("it holds no file with decision policies (.yaml, .yml, .json); one that holds `[]` \
                    says that there are none"
            .to_owned());
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<(PathBuf, Metadata)>) -> Result<(), (PathBuf, String)> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error: std::io::Error| (path, error.to_string())
    };
    if depth > DEEPEST {
        return Err((folder.to_path_buf(), format!("it is more than {DEEPEST} folders deep")));
    }
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        // Among the hidden ones are the folders behind a ConfigMap's links, and what editors leave while they write.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let holds = path
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Some other file's link into nowhere.
            Err(_) if !holds => continue,
            Err(error) => return Err(failed(&path)(error)),
        };
        if metadata.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if holds {
            if found.len() >= MOST_FILES {
                return Err((folder.to_path_buf(), format!("it holds more than {MOST_FILES} files")));
            }
            found.push((path, metadata));
        }
    }
    Ok(())
}

/// The policies of one file.
fn parse(file: &Arc<str>, text: &str) -> Result<Vec<Filed>, Vec<String>> {
    let options = serde_saphyr::options! {
        // Thousands of policies may stand in one file, which its owner wrote; what aliases may do stays limited.
        budget: serde_saphyr::budget! { max_events: 100_000_000, max_nodes: 50_000_000, max_total_scalar_bytes: 1 << 30 },
    };
    let documents = serde_saphyr::from_multiple_with_options::<Contents>(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let problem = error.without_snippet().render_with_formatter(&UserMessageFormatter);
        vec![format!("{}: {problem}", place(file, line))]
    })?;
    if documents.is_empty() {
        // Half of a write looks like this, too.
        return Err(vec![format!(
            "{}: the file is empty; `[]` says that it holds no policies",
            place(file, 1)
        )]);
    }
    let (mut policies, mut faults) = (Vec::new(), Vec::new());
    for Entry { value, lines } in documents.into_iter().flat_map(|contents| contents.0) {
        let read = Policy::from_value(&value).and_then(|policy| policy.check().map(|()| policy));
        match read {
            Ok(policy) => policies.push(Filed { policy, file: Arc::clone(file), lines }),
            Err(PolicyError { faults: found, .. }) => {
                let each =
                    found.iter().map(|fault| format!("{}: {fault}", place(file, lines.of(&fault.field))));
                faults.extend(each);
            }
        }
    }
    if faults.is_empty() { Ok(policies) } else { Err(faults) }
}

fn listed(faults: &[String]) -> String {
    let mut shown: Vec<String> = faults.iter().take(LISTED).cloned().collect();
    if faults.len() > LISTED {
        shown.push(format!("and {} more", faults.len() - LISTED));
    }
    shown.join("; ")
}

/// What one document holds.
struct Contents(Vec<Entry>);

/// A policy, or whatever stands in its place.
struct Entry {
    value: Value,
    lines: Lines,
}

impl<'de> Deserialize<'de> for Contents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Shape>::deserialize(deserializer)?;
        Ok(match value {
            Shape::Many(entries) => Self(entries),
            Shape::One(mut entry) => {
                entry.lines.start = referenced.line();
                Self(vec![entry])
            }
        })
    }
}

enum Shape {
    One(Entry),
    Many(Vec<Entry>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decision policy, a list of decision policies, or `policies` with such a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Shape, A::Error> {
                entries(list).map(Shape::Many)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                let mut entry = Entry { value: Value::Object(Map::new()), lines: Lines::default() };
                let mut policies = None;
                while let Some(field) = map.next_key::<String>()? {
                    if field == "policies" {
                        policies = Some(map.next_value::<List>()?.0);
                    } else {
                        entry.insert(field, map.next_value()?);
                    }
                }
                match policies {
                    None => Ok(Shape::One(entry)),
                    Some(policies) => match entry.lines.fields.first_key_value() {
                        None => Ok(Shape::Many(policies)),
                        Some((field, _)) => Err(de::Error::custom(format!(
                            "`{}` stands beside `policies`, which takes no other field",
                            crate::shorten(field)
                        ))),
                    },
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

struct List(Vec<Entry>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of decision policies")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<List, A::Error> {
                entries(list).map(List)
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

fn entries<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Vec<Entry>, A::Error> {
    let mut entries = Vec::new();
    while let Some(Spanned { value, referenced, .. }) = list.next_element::<Spanned<Entry>>()? {
        let mut entry = value;
        entry.lines.start = referenced.line();
        entries.push(entry);
    }
    Ok(entries)
}

impl Entry {
    fn insert(&mut self, field: String, Spanned { value, referenced, .. }: Spanned<Value>) {
        self.lines.fields.insert(field.clone(), referenced.line());
        if let Value::Object(fields) = &mut self.value {
            fields.insert(field, value);
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decision policy")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut entry = Entry { value: Value::Object(Map::new()), lines: Lines::default() };
                while let Some((field, value)) = map.next_entry()? {
                    entry.insert(field, value);
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
