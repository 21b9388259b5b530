//! What `job submit` and `function deploy` share: a request from a file with options on top, where it goes, and how long
//! to wait for what becomes of it.

use super::failure::Failure;
use super::{json, output};
use clap::Args;
use edict_client::records::{Object, Seconds};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Args)]
pub(crate) struct RequestArgs {
    /// The request as the API takes it, JSON or YAML; - for stdin. Options count over what it says
    #[arg(required_unless_present = "policy")]
    file: Option<String>,
    /// The policy to run, for example `ip_allowlist:1.0-beta`
    #[arg(long, value_name = "URI")]
    policy: Option<String>,
    /// What it is called
    #[arg(long)]
    name: Option<String>,
    /// Overrides the policy's parameters, key by key: a JSON object or @file
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// Overrides the policy's settings, key by key: a JSON object or @file
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// Where to run it; an allocator chooses when left out
    #[arg(long, value_name = "ID")]
    pub(super) executor: Option<String>,
    /// Labels that the executor's node must have: `zone=a,disk=ssd`
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = label)]
    node_selector: Vec<(String, String)>,
    /// The policy that chooses the executor; the server's own when left out
    #[arg(long, value_name = "URI", conflicts_with = "executor")]
    allocator: Option<String>,
}

/// The fields of a request; their text is kept, so that numbers keep every digit.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Request(BTreeMap<String, Box<RawValue>>);

impl RequestArgs {
    /// The file's fields, with those of the options in their place.
    pub(crate) fn read(&self) -> Result<Request, Failure> {
        let mut request = match &self.file {
            Some(path) => Request(json::read_document(path)?),
            None => Request::default(),
        };
        request.set("policy_rule_uri", self.policy.as_ref())?;
        request.set("name", self.name.as_ref())?;
        let object = |option, argument: &Option<String>| json::read_optional(option, argument.as_deref());
        request.set("policy_rule_parameters", object("--parameters", &self.parameters)?)?;
        request.set("policy_rule_settings", object("--settings", &self.settings)?)?;
        let labels: Object =
            self.node_selector.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        request.set("node_selector", Some(labels).filter(|labels| !labels.is_empty()))?;
        let allocator = |uri: &String| json!({"resource_allocator_policy_uri": uri});
        request.set("alloc", self.allocator.as_ref().map(allocator))?;
        Ok(request)
    }
}

impl Request {
    /// Puts a field in its place, if there is a value.
    pub(crate) fn set(&mut self, field: &str, value: Option<impl Serialize>) -> Result<(), Failure> {
        if let Some(value) = value {
            let raw = to_raw_value(&value).map_err(|error| Failure::usage(format!("{field}: {error}")))?;
            self.0.insert(field.to_owned(), raw);
        }
        Ok(())
    }

    /// A field that is an object, to be changed; an empty one when it is not there.
    pub(crate) fn object(&self, field: &str) -> Result<Object, Failure> {
        let Some(raw) = self.0.get(field) else { return Ok(Object::new()) };
        serde_json::from_str(raw.get())
            .map_err(|_| Failure::usage(format!("`{field}` in the file is not an object")))
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no label; write it like `zone=a`"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// How long a verb waits for something that a server is asked about again and again.
pub(crate) struct Patience {
    end: Option<Instant>,
    step: Duration,
}

impl Patience {
    /// For ever, unless said otherwise. Somebody at a terminal sees each state soon after it changed; for others one
    /// request waits as long as proxies leave it alone.
    pub(crate) fn new(longest: Option<Seconds>) -> Self {
        let end = longest.and_then(|longest| Instant::now().checked_add(longest.duration()));
        let step = if output::at_terminal() { Duration::from_millis(300) } else { Duration::from_secs(30) };
        Self { end, step }
    }

    /// How long the next request may wait.
    pub(crate) fn next(&self) -> Duration {
        self.end.map_or(self.step, |end| self.step.min(end.saturating_duration_since(Instant::now())))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }
}
