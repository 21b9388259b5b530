//! regorus: a rule for each policy.

use crate::corpus::{Policy, ROLE};
use regorus::{CompiledPolicy, PolicyLengthConfig, Value};
use std::error::Error;
use std::fmt::Write;

pub struct Engine<'r> {
    policy: CompiledPolicy,
    texts: &'r [String],
}

impl<'r> Engine<'r> {
    pub fn new(policies: &[Policy], texts: &'r [String]) -> Result<Self, Box<dyn Error>> {
        let mut source = String::from("package decisions\nimport rego.v1\n");
        for policy in policies {
            let set = if policy.deny { "denied_by" } else { "allowed_by" };
            writeln!(source, "{set} contains {:?} if {{", policy.name)?;
            writeln!(source, "  input.action == {:?}\n  input.context.role == {ROLE:?}", policy.action)?;
            for (name, value) in &policy.metadata {
                writeln!(source, "  input.context.metadata.{name} == {value}")?;
            }
            writeln!(source, "  glob.match({:?}, [\"/\"], input.resource)\n}}", policy.resources)?;
        }
        source.push_str("default allowed := false\nallowed if { count(allowed_by) > 0; count(denied_by) == 0 }\n");
        let mut engine = regorus::Engine::new();
        let most = |most: usize| most.try_into().map_err(|_| "no limit is 0");
        engine.set_policy_length_config(PolicyLengthConfig {
            max_col: 1024.try_into()?,
            max_file_bytes: most(1 << 28)?,
            max_lines: most(1 << 24)?,
        });
        engine.add_policy("decisions.rego".into(), source)?;
        Ok(Self { policy: engine.compile_with_entrypoint(&"data.decisions.allowed".into())?, texts })
    }

    pub fn from_json(&self, number: usize) -> bool {
        let input = Value::from_json_str(&self.texts[number]);
        let decision = input.and_then(|input| self.policy.eval_with_input(input));
        decision.is_ok_and(|decision| matches!(decision, Value::Bool(true)))
    }
}
