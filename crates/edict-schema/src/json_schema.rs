//! A JSON Schema as it stands.

mod references;

use std::fmt::{self, Write as _};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::fault::{Fault, MAX_FAULTS, quote, quote_text};
use crate::pattern;
use crate::survey::Survey;

/// Levels of JSON in an instance, as many as a JSON parser commonly takes.
const MAX_DEPTH: usize = 128;
/// The library makes all faults before it hands out the first: with more values than this, only one is made.
const MAX_VALUES: usize = 10_000;
/// Characters of a message.
const MAX_MESSAGE: usize = 300;

/// Bytes of stack set aside for each step of the library's recursion; the tests go through thousands of steps.
const STEP_BYTES: usize = 4 << 10;
const MIN_STACK: usize = 512 << 10;
const MAX_STACK: usize = 256 << 20;

pub(crate) struct JsonSchema {
    validator: Validator,
    /// Steps of recursion that a value may take before the next level of the instance.
    steps: usize,
    /// Whether telling all faults takes a time that is known to be bounded.
    explains: bool,
}

impl JsonSchema {
    /// Compiles a schema that is known to be within the limits.
    pub(crate) fn compile(schema: &Value, survey: &Survey) -> Result<Self, Vec<Fault>> {
        // Each level passes through several layers of the meta-schema.
        stacker::maybe_grow(8 << 20, 16 << 20, || {
            let meta = jsonschema::meta::validator_for(schema)
                .map_err(|error| vec![unknown_draft(schema, &error)])?;
            let faults: Vec<_> =
                meta.iter_errors(schema).take(MAX_FAULTS).map(|error| build_fault(&error)).collect();
            if !faults.is_empty() {
                return Err(faults);
            }
            let explains = references::check(schema)?;
            let patterns =
                PatternOptions::regex().size_limit(pattern::MAX_BYTES).dfa_size_limit(pattern::MAX_BYTES);
            let options = jsonschema::options().offline().with_pattern_options(patterns);
            let validator = options.build(schema).map_err(|error| vec![build_fault(&error)])?;
            Ok(Self { validator, steps: if survey.refers { survey.objects } else { 0 }, explains })
        })
    }

    pub(crate) fn validate(&self, instance: &Value) -> Result<(), Vec<Fault>> {
        let survey = Survey::of(instance, MAX_DEPTH, |_, _| {});
        if survey.depth > MAX_DEPTH {
            return Err(whole(format!("must nest at most {MAX_DEPTH} levels deep")));
        }
        // A `$ref` lets the schema recurse, once through each of its parts for each level of the instance:
        // on a thread's usual stack, a hostile schema would end the process.
        let steps = self.steps.saturating_mul(survey.depth + 1);
        let stack = steps.saturating_mul(STEP_BYTES).saturating_add(MIN_STACK);
        if stack > MAX_STACK {
            return Err(whole("is nested too deeply for a schema with so many references".to_owned()));
        }
        stacker::maybe_grow(stack, stack, || self.check(instance, survey.values))
    }

    fn check(&self, instance: &Value, values: usize) -> Result<(), Vec<Fault>> {
        if self.validator.is_valid(instance) {
            return Ok(());
        }
        if !self.explains {
            return Err(whole(
                "does not fit the schema, whose references combine in too many ways to say where".to_owned(),
            ));
        }
        if values > MAX_VALUES {
            return self.validator.validate(instance).map_err(|error| vec![fault(&error)]);
        }
        let faults: Vec<_> =
            self.validator.iter_errors(instance).take(MAX_FAULTS).map(|error| fault(&error)).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

fn whole(message: String) -> Vec<Fault> {
    vec![Fault { pointer: String::new(), message }]
}

fn fault(error: &ValidationError<'_>) -> Fault {
    let mut message = Message { text: String::new(), room: MAX_MESSAGE };
    // The only error is that the message is long enough.
    let _ = write!(message, "{}", error.masked_with(quote(error.instance())));
    Fault { pointer: error.instance_path().as_str().to_owned(), message: message.text }
}

fn unknown_draft(schema: &Value, error: &ValidationError<'_>) -> Fault {
    let name = schema.get("$schema").map(quote).unwrap_or_default();
    let known = "use `https://json-schema.org/draft/2020-12/schema` or another published draft";
    match error.kind() {
        ValidationErrorKind::Referencing(_) => {
            Fault { pointer: "/$schema".to_owned(), message: format!("unknown draft {name}; {known}") }
        }
        _ => fault(error),
    }
}

fn build_fault(error: &ValidationError<'_>) -> Fault {
    match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => {
            let source = error.instance().as_str().unwrap_or_default();
            let why = pattern::compile(source).err();
            let why = why.unwrap_or_else(|| "is not a valid pattern".to_owned());
            Fault { message: format!("the pattern {} {why}", quote_text(source)), ..fault(error) }
        }
        _ => fault(error),
    }
}

/// Takes a message up to its limit: some of the library's list a part of the instance.
struct Message {
    text: String,
    room: usize,
}

impl fmt::Write for Message {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for c in part.chars() {
            if self.room == 0 {
                self.text.push('…');
                return Err(fmt::Error);
            }
            self.room -= 1;
            if c.is_control() { self.text.extend(c.escape_default()) } else { self.text.push(c) }
        }
        Ok(())
    }
}
