//! The conditions of a policy: each reads one thing of a request and holds, does not hold, or cannot be evaluated.

mod address;
mod time;

use edict_filter::Filter;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::{
    facts::Facts,
    fault::{Fault, shown, shown_value},
};

use time::TimeRange;

const MAX_LISTED: usize = 1_000;
const MAX_URI: usize = 500;

const NAMES: [&str; 7] = ["role", "roles", "userId", "ipRange", "timeRange", "metadata", "policyRuleUri"];

/// One condition and the field it stands in, `metadata.severity` for instance.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) field: Box<str>,
    pub(crate) test: Test,
}

/// In the order in which they are tried: what costs least first.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// The request has one of these roles.
    Role(Vec<Box<str>>),
    /// The user is one of these.
    User(Vec<Box<str>>),
    /// A field of the request's metadata.
    Metadata(Filter),
    /// Any other field of the context.
    Context(Filter),
    /// The roles, by operators.
    RoleFilter(Filter),
    /// The address is in one of these networks.
    Address(Vec<IpNet>),
    Time(Box<TimeRange>),
    /// What a Python policy answered.
    Rule(Box<str>),
    /// Could not be compiled; holds why.
    Unreadable(Box<str>),
}

/// What could be read, and what could not.
#[derive(Default)]
pub(crate) struct Compiled {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) faults: Vec<Fault>,
}

pub(crate) fn compile(conditions: &Map<String, Value>) -> Compiled {
    let mut compiled = Compiled::default();
    for (name, wanted) in conditions {
        match name.as_str() {
            "role" | "roles" => compiled.add(name, role(name, wanted)),
            "userId" => compiled.add(name, user(name, wanted)),
            "ipRange" => compiled.add(name, address::networks(wanted).map(Test::Address)),
            "timeRange" => match TimeRange::compile(wanted) {
                Ok(range) => compiled.add(name, Ok(Test::Time(Box::new(range)))),
                Err(faults) => compiled.faults.extend(faults),
            },
            "metadata" => compiled.metadata(wanted),
            "policyRuleUri" => compiled.add(name, rule(wanted)),
            // What whoever keeps policies writes in place of those that it cannot read; never a condition.
            "$unreadable" => compiled.faults.push(Fault::new("conditions.$unreadable", shown_value(wanted))),
            other => compiled.add(name, context(other, wanted)),
        }
    }
    compiled.conditions.sort_by_key(|condition| condition.test.rank());
    compiled
}

impl Compiled {
    fn add(&mut self, field: &str, test: Result<Test, Fault>) {
        match test {
            Ok(test) => self.conditions.push(Condition { field: field.into(), test }),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// One condition for each field, so that an explanation can name the one that does not hold.
    fn metadata(&mut self, wanted: &Value) {
        let Value::Object(fields) = wanted else {
            self.faults.push(Fault::takes("conditions.metadata", wanted, "an object of fields"));
            return;
        };
        for (key, operand) in fields {
            let field = format!("metadata.{}", shown(key));
            let test = filter(&format!("conditions.{field}"), key, operand).map(Test::Metadata);
            self.add(&field, test);
        }
    }
}

impl Condition {
    /// Whether it holds; the error says why that cannot be told.
    pub(crate) fn holds(&self, facts: &Facts<'_>) -> Result<bool, String> {
        match &self.test {
            Test::Role(names) => Ok(facts.roles().any(|role| contains(names, role))),
            Test::User(names) => Ok(facts.user.is_some_and(|user| contains(names, user))),
            Test::Metadata(filter) => Ok(filter.matches(facts.metadata)),
            Test::Context(filter) => Ok(filter.matches(facts.context)),
            Test::RoleFilter(filter) => Ok(filter.matches(facts.role_document())),
            Test::Address(networks) => {
                let address = facts.address()?;
                Ok(networks.iter().any(|network| network.contains(&address)))
            }
            Test::Time(range) => Ok(range.contains(facts.now)),
            Test::Rule(uri) => facts.answers.get(uri),
            Test::Unreadable(why) => Err(why.to_string()),
        }
    }

    /// What was found where this condition wanted something else.
    pub(crate) fn found(&self, facts: &Facts<'_>) -> String {
        match &self.test {
            Test::Role(_) | Test::RoleFilter(_) => {
                let roles: Vec<String> =
                    facts.roles().take(20).map(|role| format!("`{}`", shown(role))).collect();
                if roles.is_empty() {
                    "the request has no role".into()
                } else {
                    format!("it is {}", roles.join(", "))
                }
            }
            Test::User(_) => {
                facts.user.map_or("the request has no user".into(), |user| format!("it is `{}`", shown(user)))
            }
            Test::Metadata(_) => {
                field(facts.metadata, self.field.strip_prefix("metadata.").unwrap_or_default())
            }
            Test::Context(_) => field(facts.context, &self.field),
            Test::Address(_) => {
                facts.address().map_or_else(|why| why, |address| format!("it is `{address}`"))
            }
            Test::Time(range) => range.found(facts.now),
            Test::Rule(uri) => format!("`{}` did not allow it", shown(uri)),
            Test::Unreadable(why) => why.to_string(),
        }
    }
}

impl Test {
    fn rank(&self) -> u8 {
        match self {
            Self::Role(_) => 0,
            Self::User(_) => 1,
            Self::Metadata(_) => 2,
            Self::Context(_) => 3,
            Self::RoleFilter(_) => 4,
            Self::Address(_) => 5,
            Self::Time(_) => 6,
            Self::Rule(_) => 7,
            Self::Unreadable(_) => 8,
        }
    }
}

/// What stands in a document where a path leads to, for an explanation.
fn field(document: &Value, path: &str) -> String {
    let mut value = document;
    for key in path.split('.') {
        value = match value {
            Value::Object(fields) if !key.starts_with('$') => match fields.get(key) {
                Some(value) => value,
                None => return "the request does not have it".into(),
            },
            Value::Null => return "the request does not have it".into(),
            _ => return "the request's value is another".into(),
        };
    }
    format!("it is `{}`", shown_value(value))
}

fn contains(names: &[Box<str>], name: &str) -> bool {
    names.iter().any(|known| **known == *name)
}

fn role(name: &str, wanted: &Value) -> Result<Test, Fault> {
    match wanted {
        Value::Object(_) => filter(&format!("conditions.{name}"), name, wanted).map(Test::RoleFilter),
        _ => names(name, wanted).map(Test::Role),
    }
}

fn user(name: &str, wanted: &Value) -> Result<Test, Fault> {
    match wanted {
        Value::Object(_) => context(name, wanted),
        _ => names(name, wanted).map(Test::User),
    }
}

/// One name or several of which one is enough.
fn names(name: &str, wanted: &Value) -> Result<Vec<Box<str>>, Fault> {
    let field = format!("conditions.{name}");
    let listed = match wanted {
        Value::Array(listed) => listed.as_slice(),
        single => std::slice::from_ref(single),
    };
    if listed.is_empty() || listed.len() > MAX_LISTED {
        return Err(Fault::new(field, format!("has {} names; it takes 1 to {MAX_LISTED}", listed.len())));
    }
    let read = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(Box::from);
    let names: Option<Vec<_>> = listed.iter().map(read).collect();
    names.ok_or_else(|| {
        Fault::takes(field, wanted, "a name, a list of names, or operators such as `{\"$ne\": \"guest\"}`")
    })
}

fn rule(wanted: &Value) -> Result<Test, Fault> {
    match wanted.as_str().filter(|uri| (1..=MAX_URI).contains(&uri.len())) {
        Some(uri) => Ok(Test::Rule(uri.into())),
        None => Err(Fault::takes(
            "conditions.policyRuleUri",
            wanted,
            "the URI of a policy, such as `office_hours:1.0-stable`",
        )),
    }
}

fn context(name: &str, wanted: &Value) -> Result<Test, Fault> {
    let field = format!("conditions.{}", shown(name));
    // Logic over conditions would read `role` and `ipRange` within it as plain fields, which they are not.
    if name.starts_with('$') {
        return Err(Fault::new(
            field,
            "stands where a field is expected; all conditions must hold, so write a policy for each alternative",
        ));
    }
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], "");
    // `ip_range` would be a legal field of the context that no request has: a deny that never denies.
    if let Some(meant) = NAMES.iter().find(|known| **known != name && plain(known) == plain(name)) {
        return Err(Fault::new(field, format!("is not a condition; did you mean `{meant}`?")));
    }
    filter(&field, name, wanted).map(Test::Context)
}

fn filter(field: &str, key: &str, operand: &Value) -> Result<Filter, Fault> {
    Filter::parse(&json!({ key: operand }))
        .map_err(|error| Fault::new(field, format!("cannot be read: {error}")))
}
