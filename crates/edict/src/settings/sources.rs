//! Where settings come from, and how the effective ones are shown.

use super::{Settings, SettingsError};
use clap::{Arg, ArgMatches};
use std::collections::HashMap;
use std::path::Path;
use toml::{Table, Value};

const DEFAULTS: &str = include_str!("edict.default.toml");

/// Settings with what is needed to print them.
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    values: Table,
    origins: HashMap<String, &'static str>,
}

/// One setting as the list describes it.
struct Entry {
    name: String,
    default: Value,
    help: String,
    /// The environment variable that sets it.
    variable: String,
    secret: bool,
}

/// The entries of the list, in its order.
fn entries() -> Vec<Entry> {
    let table: Table = DEFAULTS.parse().unwrap_or_default();
    let mut help: Vec<&str> = Vec::new();
    let mut entries = Vec::new();
    for line in DEFAULTS.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            help.push(comment);
        } else if let Some((name, _)) = line.split_once(" = ")
            && let Some(default) = table.get(name)
        {
            let text = help.join(" ");
            let (text, secret) = match text.strip_suffix(" [secret]") {
                Some(text) => (text, true),
                None => (text.as_str(), false),
            };
            let (text, variable) = match text.strip_suffix(']').and_then(|text| text.rsplit_once(" [env ")) {
                Some((text, variable)) => (text, variable.to_owned()),
                None => (text, format!("EDICT_{}", name.to_uppercase())),
            };
            let (name, help) = (name.to_owned(), text.to_owned());
            entries.push(Entry { name, default: default.clone(), help, variable, secret });
        } else {
            help.clear();
        }
    }
    entries
}

/// The environment variables that set something.
pub(crate) fn variables() -> impl Iterator<Item = String> {
    entries().into_iter().map(|entry| entry.variable)
}

/// The flags of every setting, for verbs that start a server.
#[derive(Clone, Default)]
pub(crate) struct SettingsArgs(ArgMatches);

impl SettingsArgs {
    /// The effective settings.
    pub(crate) fn load(&self) -> Result<Loaded, SettingsError> {
        load(&self.0)
    }
}

impl clap::FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

impl clap::Args for SettingsArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(flags())
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command.args(flags())
    }
}

/// A command-line flag for each setting.
fn flags() -> Vec<Arg> {
    let flag = |entry: Entry| {
        let long = entry.name.replace('_', "-");
        let help = format!("{} [env: {}]", entry.help, entry.variable);
        Arg::new(entry.name).long(long).value_name("VALUE").help(help).help_heading("Settings")
    };
    entries().into_iter().map(flag).collect()
}

/// Reads every source. `matches` holds the flags of [`flags`]; `.env` has become part of the environment before.
///
/// # Errors
/// When a source cannot be read, names a setting that does not exist, or a value does not fit.
fn load(matches: &ArgMatches) -> Result<Loaded, SettingsError> {
    let entries = entries();
    let mut values = Table::new();
    let mut origins = HashMap::new();
    let file = read_file(&entries)?;
    for entry in &entries {
        let flag = matches.try_get_one::<String>(&entry.name).ok().flatten().cloned();
        let environment = || std::env::var(&entry.variable).ok().filter(|text| !text.is_empty());
        let (text, origin) = match flag {
            Some(text) => (Some(text), "command line"),
            None => (environment(), "environment"),
        };
        let (value, origin) = match (text, file.get(&entry.name)) {
            (Some(text), _) => (typed(entry, &text)?, origin),
            (None, Some(value)) => (value.clone(), "edict.toml"),
            (None, None) => (entry.default.clone(), "default"),
        };
        values.insert(entry.name.clone(), value);
        origins.insert(entry.name.clone(), origin);
    }
    let settings = settings_from(&values)?.with_data_dir()?.check()?;
    values.insert("data_dir".to_owned(), Value::String(settings.data_dir.display().to_string()));
    Ok(Loaded { settings, values, origins })
}

/// Converts one setting at a time, so that the error can name it.
fn settings_from(values: &Table) -> Result<Settings, SettingsError> {
    serde_path_to_error::deserialize(Value::Table(values.clone())).map_err(|error| SettingsError::Invalid {
        name: error.path().to_string(),
        problem: error.inner().to_string().trim().lines().next().unwrap_or_default().to_owned(),
    })
}

fn read_file(entries: &[Entry]) -> Result<Table, SettingsError> {
    let named = std::env::var("EDICT_CONFIG").ok();
    let path = named.clone().unwrap_or_else(|| "edict.toml".to_owned());
    if named.is_none() && !Path::new(&path).exists() {
        return Ok(Table::new());
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|source| SettingsError::Unreadable { path: path.clone(), source })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Malformed {
        path: path.clone(),
        problem: error.to_string(),
    })?;
    if let Some(name) = table.keys().find(|name| !entries.iter().any(|entry| &entry.name == *name)) {
        let nearest = crate::nearest(name, entries.iter().map(|entry| entry.name.as_str()));
        return Err(SettingsError::Unknown { name: name.clone(), place: format!("`{path}`"), nearest });
    }
    Ok(table)
}

/// Text from a flag or the environment, as the type that the default has. Lists are separated by commas.
fn typed(entry: &Entry, text: &str) -> Result<Value, SettingsError> {
    let invalid = |expected: &str| {
        let shown = if entry.secret { "***" } else { text };
        let problem = format!("expected {expected}, got `{shown}`");
        SettingsError::Invalid { name: entry.name.clone(), problem }
    };
    Ok(match &entry.default {
        Value::Integer(_) => Value::Integer(text.trim().parse().map_err(|_| invalid("a whole number"))?),
        Value::Boolean(_) => Value::Boolean(text.trim().parse().map_err(|_| invalid("`true` or `false`"))?),
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        _ => Value::String(text.to_owned()),
    })
}

/// Shows the settings only: `values` holds secrets as plain text.
impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl Loaded {
    /// The effective settings, secrets masked.
    pub(crate) fn masked(&self) -> Table {
        let secrets: HashMap<String, bool> =
            entries().into_iter().map(|entry| (entry.name, entry.secret)).collect();
        let mask = |(name, value): (&String, &Value)| {
            let empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
            let hide = !empty && secrets.get(name).copied().unwrap_or_default();
            (name.clone(), if hide { Value::String("***".to_owned()) } else { value.clone() })
        };
        self.values.iter().map(mask).collect()
    }

    /// The effective settings as a commented `edict.toml`, secrets masked, each with where it comes from.
    pub(crate) fn to_toml(&self) -> String {
        let values = self.masked();
        let shown = |line: &str| {
            let name = line.split_once(" = ").map(|(name, _)| name).filter(|_| !line.starts_with('#'));
            let Some((name, value)) = name.and_then(|name| Some((name, values.get(name)?))) else {
                return format!("{line}\n");
            };
            match self.origins.get(name).copied() {
                None | Some("default") => format!("{name} = {value}\n"),
                Some(origin) => format!("{name} = {value}  # from {origin}\n"),
            }
        };
        DEFAULTS.lines().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(arguments: &[&str]) -> Result<Loaded, SettingsError> {
        let command = clap::Command::new("edict").args(flags());
        let all = std::iter::once("edict").chain(arguments.iter().copied());
        load(&command.try_get_matches_from(all).unwrap())
    }

    #[test]
    fn every_setting_has_a_help_text() {
        assert!(entries().len() > 20);
        assert!(entries().iter().all(|entry| entry.help.ends_with('.')));
    }

    #[test]
    fn a_flag_wins_and_is_shown_with_its_origin() {
        let loaded = loaded(&["--system-port", "0", "--data-dir", "/tmp/x"]).unwrap();
        assert_eq!(loaded.settings.system_port, 0);
        assert!(loaded.to_toml().contains("system_port = 0  # from command line"));
    }

    #[test]
    fn a_relative_data_folder_is_meant_from_here() {
        let loaded = loaded(&["--data-dir", "here/data"]).unwrap();
        assert_eq!(loaded.settings.data_dir, std::env::current_dir().unwrap().join("here/data"));
    }

    #[test]
    fn secrets_are_masked_wherever_they_are_printed() {
        let loaded =
            loaded(&["--auth-tokens", "admin:open-sesame-now", "--database-url", "postgres://u:sesame@h/d"])
                .unwrap();
        assert!(!loaded.to_toml().contains("sesame"));
        assert!(!format!("{loaded:?}").contains("sesame"));
    }

    #[test]
    fn a_wrong_value_names_the_setting() {
        let error = loaded(&["--system-port", "many"]).unwrap_err().to_string();
        assert_eq!(error, "setting `system_port`: expected a whole number, got `many`");
        let error = loaded(&["--system-port", "70000"]).unwrap_err().to_string();
        assert!(error.starts_with("setting `system_port`"), "{error}");
    }

    #[test]
    fn an_open_port_without_tokens_is_refused() {
        let open = loaded(&["--bind", "0.0.0.0"]).unwrap().settings;
        assert!(matches!(open.check_protection(), Err(SettingsError::Unprotected { .. })));
        let guarded =
            loaded(&["--bind", "0.0.0.0", "--auth-tokens", "admin:0123456789abcdef"]).unwrap().settings;
        assert!(guarded.check_protection().is_ok());
    }
}
