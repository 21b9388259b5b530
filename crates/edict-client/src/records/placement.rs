//! What jobs, functions and graphs share: labels, durations, the choice of an executor, and faults.

use super::Object;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Labels of a node, or those that it must have.
pub type Labels = BTreeMap<String, String>;

/// Who chooses the executor: a policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Alloc {
    /// The allocator; the server's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_allocator_policy_uri: Option<String>,
    /// Overrides the allocator's settings, key by key.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub settings: Object,
    /// Overrides the allocator's parameters, key by key.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub parameters: Object,
}

/// Why a job, a replica or a node failed: the same code and text that a caller of the policy would have got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunFault {
    /// A stable code; `docs/errors.md` has cause and fix of each.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Facts that belong to the code.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub details: Value,
}

/// A duration: written as a number of seconds, read also from text such as `500ms`, `90s`, `5m`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = f64))]
#[serde(transparent)]
pub struct Seconds(f64);

impl Seconds {
    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0).unwrap_or(Duration::MAX)
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs_f64())
    }
}

impl std::str::FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match text.get(digits.len()..).unwrap_or_default() {
            "" | "s" => 1.0,
            "ms" => 0.001,
            "m" => 60.0,
            "h" => 3600.0,
            _ => f64::NAN,
        };
        digits.trim_end().parse().ok().and_then(|number: f64| seconds(number * unit)).ok_or_else(|| {
            format!(
                "`{}` is no duration; write seconds, or text such as `500ms`, `90s`, `5m`",
                shortened(text)
            )
        })
    }
}

/// From nothing to a year; what is beyond that is a mistake.
fn seconds(number: f64) -> Option<Seconds> {
    (0.0..=366.0 * 86400.0).contains(&number).then_some(Seconds(number))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl Visitor<'_> for Reading {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds as a number, or text such as `500ms`, `90s`, `5m`")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Seconds, E> {
        seconds(number)
            .ok_or_else(|| E::custom(format!("`{number}` seconds is no duration of at most a year")))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers that large are refused anyway")]
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Seconds, E> {
        self.visit_f64(number as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers that large are refused anyway")]
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Seconds, E> {
        self.visit_f64(number as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Seconds, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_or_text() {
        let read = |text: &str| serde_json::from_str::<Seconds>(text).map(Seconds::duration);
        assert_eq!(read("1.5").unwrap(), Duration::from_millis(1500));
        assert_eq!(read("30").unwrap(), Duration::from_secs(30));
        assert_eq!(read("\"500ms\"").unwrap(), Duration::from_millis(500));
        assert_eq!(read("\"90s\"").unwrap(), Duration::from_secs(90));
        assert_eq!(read("\"5m\"").unwrap(), Duration::from_secs(300));
        assert_eq!(read("\"2h\"").unwrap(), Duration::from_secs(7200));
        for bad in ["-1", "1e300", "\"\"", "\"5x\"", "\"m\"", "\"nan\"", "\"inf\"", "true", "\"-3s\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Seconds::from(Duration::from_millis(1500))).unwrap(), "1.5");
    }
}
