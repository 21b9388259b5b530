//! A decision policy as people write it.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::{
    condition,
    fault::{Fault, PolicyError, nearest},
};

const FIELDS: [&str; 9] =
    ["name", "description", "type", "effect", "priority", "conditions", "actions", "resources", "isActive"];

const MAX_NAME: usize = 200;
const MAX_DESCRIPTION: usize = 2_000;
const MAX_PATTERNS: usize = 1_000;
const MAX_PATTERN: usize = 1_000;
const MAX_PRIORITY: u64 = 1_000;

/// An allow or deny rule.
///
/// It applies to a request when the type is the same, the action and the resource each match one of the patterns,
/// and all conditions hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Unique within a set; 1 to 200 characters.
    pub name: String,
    /// For people; part of the reason when this policy decides. Default: empty.
    pub description: String,
    /// The type of request it is about, `self_healing` for instance; `*` alone stands for every type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it does when it applies.
    pub effect: Effect,
    /// 0 (default) to 1000: orders the reason and the list of policies, never the outcome.
    pub priority: u16,
    /// What must hold beside; see the crate's README. Default: none.
    pub conditions: Map<String, Value>,
    /// Patterns with `*` (any characters, also none) and `?` (one character); at least one.
    pub actions: Vec<String>,
    /// Patterns like those of the actions; at least one.
    pub resources: Vec<String>,
    /// An inactive policy is checked and explained, and never applies. Default: true.
    pub is_active: bool,
}

/// What a policy does when it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The request is allowed unless a deny applies.
    Allow,
    /// The request is denied, whatever else applies.
    Deny,
}

impl Policy {
    /// Reads a policy: its fields and their types. What they say is checked by [`Policy::check`].
    ///
    /// # Errors
    /// Every missing, unknown or mistyped field.
    pub fn from_value(value: &Value) -> Result<Self, PolicyError> {
        let Value::Object(fields) = value else {
            let fault = Fault::takes("policy", value, "an object with the fields of a policy");
            return Err(PolicyError { policy: String::new(), faults: vec![fault] });
        };
        let mut reader = Reader { fields, faults: Vec::new() };
        let policy = Self {
            name: reader.required("name", "a text", text).unwrap_or_default(),
            description: reader.optional("description", "a text", text).unwrap_or_default(),
            kind: reader.required("type", "a text", text).unwrap_or_default(),
            // Never seen: a policy without an effect has a fault and is not returned.
            effect: reader.required("effect", "`allow` or `deny`", effect).unwrap_or(Effect::Deny),
            priority: reader
                .optional("priority", "a whole number from 0 to 1000", priority)
                .unwrap_or_default(),
            conditions: reader.optional("conditions", "an object", object).unwrap_or_default(),
            actions: reader.required("actions", "a list of texts", texts).unwrap_or_default(),
            resources: reader.required("resources", "a list of texts", texts).unwrap_or_default(),
            is_active: reader.optional("isActive", "true or false", Value::as_bool).unwrap_or(true),
        };
        for unknown in fields.keys().filter(|key| !FIELDS.contains(&key.as_str())) {
            let message = format!("is not a field of a policy; {}", nearest(unknown, &FIELDS));
            reader.faults.push(Fault::new(crate::fault::shown(unknown), message));
        }
        if reader.faults.is_empty() {
            return Ok(policy);
        }
        Err(PolicyError { policy: policy.name, faults: reader.faults })
    }

    /// Checks what the fields say: lengths, patterns, every condition.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), PolicyError> {
        let mut faults = self.faults_but_conditions();
        faults.extend(condition::compile(&self.conditions).faults);
        if faults.is_empty() {
            return Ok(());
        }
        Err(PolicyError { policy: self.name.clone(), faults })
    }

    /// [`Policy::check`] without the conditions: what [`crate::PolicySet::compile_stored`] asks for.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check_but_conditions(&self) -> Result<(), PolicyError> {
        let faults = self.faults_but_conditions();
        if faults.is_empty() {
            return Ok(());
        }
        Err(PolicyError { policy: self.name.clone(), faults })
    }

    pub(crate) fn faults_but_conditions(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut length = |field: &str, text: &str, least: usize, most: usize| {
            let chars = text.chars().count();
            if chars < least || chars > most {
                let message = format!("has {chars} characters; it takes {least} to {most}");
                faults.push(Fault::new(field, message));
            }
        };
        length("name", &self.name, 1, MAX_NAME);
        length("description", &self.description, 0, MAX_DESCRIPTION);
        length("type", &self.kind, 1, MAX_NAME);
        let lists = [("actions", &self.actions), ("resources", &self.resources)];
        for (field, patterns) in lists {
            for (position, pattern) in patterns.iter().enumerate() {
                length(&format!("{field}.{position}"), pattern, 1, MAX_PATTERN);
            }
        }
        for (field, patterns) in lists {
            if !(1..=MAX_PATTERNS).contains(&patterns.len()) {
                let found = patterns.len();
                let message =
                    format!("has {found} patterns; it takes 1 to {MAX_PATTERNS} (`*` matches everything)");
                faults.push(Fault::new(field, message));
            }
        }
        if u64::from(self.priority) > MAX_PRIORITY {
            faults.push(Fault::takes("priority", &self.priority.into(), "a whole number from 0 to 1000"));
        }
        faults
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Effect {
    /// The effect as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

struct Reader<'v> {
    fields: &'v Map<String, Value>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn optional<T>(&mut self, field: &str, takes: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.fields.get(field)?;
        let read = read(value);
        if read.is_none() {
            self.faults.push(Fault::takes(field, value, takes));
        }
        read
    }

    fn required<T>(&mut self, field: &str, takes: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        if !self.fields.contains_key(field) {
            self.faults.push(Fault::new(field, format!("is missing; it takes {takes}")));
        }
        self.optional(field, takes, read)
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(text).collect()
}

fn object(value: &Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

fn effect(value: &Value) -> Option<Effect> {
    match value.as_str()? {
        "allow" => Some(Effect::Allow),
        "deny" => Some(Effect::Deny),
        _ => None,
    }
}

fn priority(value: &Value) -> Option<u16> {
    let priority = value.as_u64().filter(|priority| *priority <= MAX_PRIORITY)?;
    u16::try_from(priority).ok()
}
