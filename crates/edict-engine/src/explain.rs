//! Why each policy did or did not apply. Looks at every policy, without the index: for people, not for each request.

use serde::Serialize;

use crate::{
    Answers, Decision, Effect, EvaluationError, PolicySet, Request, Timestamp,
    facts::Facts,
    fault::shown,
    pattern::Pattern,
    set::{Rule, Verdict},
};

/// A decision and what every policy had to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation<'s> {
    /// What [`PolicySet::evaluate`] answers.
    #[serde(flatten)]
    pub decision: Decision<'s>,
    /// All policies of the set: those that came furthest first, then by priority and name.
    pub considered: Vec<Considered<'s>>,
}

/// One policy, and why it did or did not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Considered<'s> {
    /// The policy's name.
    pub policy: &'s str,
    /// What it does when it applies.
    pub effect: Effect,
    /// Its priority.
    pub priority: u16,
    /// Whether it applied: an allow only when all holds, a deny also when that cannot be told.
    pub applied: bool,
    /// How far it came.
    pub stage: Stage,
    /// One sentence.
    pub why: String,
}

/// The check at which a policy ended, in the order of the checks from the last to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It passed all of them.
    Applied,
    /// No condition failed, and at least one could not be evaluated.
    NotEvaluated,
    /// A condition does not hold.
    Conditions,
    /// The resource matches none of its patterns.
    Resource,
    /// The action matches none of its patterns.
    Action,
    /// It is about another type of request.
    Type,
    /// It is not active.
    Inactive,
}

impl PolicySet {
    /// Decides like [`PolicySet::evaluate`], and says of every policy why it did or did not apply. Takes time by the
    /// number of policies.
    pub fn explain(&self, request: &Request<'_>, now: Timestamp, answers: &Answers) -> Explanation<'_> {
        let facts = Facts::new(request, now, answers);
        let mut considered: Vec<_> = self.rules.iter().map(|rule| rule.consider(&facts)).collect();
        // Stable, so that the order of the set remains within a stage.
        considered.sort_by_key(|considered| considered.stage);
        Explanation { decision: self.evaluate(request, now, answers), considered }
    }
}

impl Rule {
    fn consider<'s>(&'s self, facts: &Facts<'_>) -> Considered<'s> {
        let (stage, why) = self.stage(facts);
        let applied = match stage {
            Stage::Applied => true,
            Stage::NotEvaluated => self.effect == Effect::Deny,
            _ => false,
        };
        Considered { policy: &self.name, effect: self.effect, priority: self.priority, applied, stage, why }
    }

    fn stage(&self, facts: &Facts<'_>) -> (Stage, String) {
        if !self.active {
            return (Stage::Inactive, "it is not active".into());
        }
        if !self.is_of_kind(facts) {
            let kind = self.kind.as_deref().unwrap_or("*");
            return (Stage::Type, format!("it is about type `{}`, not `{}`", shown(kind), shown(facts.kind)));
        }
        if !self.is_for_action(facts) {
            return (Stage::Action, no_match("action", facts.action, &self.actions));
        }
        if !self.is_for_resource(facts) {
            return (Stage::Resource, no_match("resource", facts.resource, &self.resources));
        }
        match self.conditions_hold(facts) {
            Verdict::Holds if self.conditions.is_empty() => {
                (Stage::Applied, "the action and the resource match, and it has no conditions".into())
            }
            Verdict::Holds => {
                (Stage::Applied, "the action and the resource match, and all conditions hold".into())
            }
            Verdict::Fails => (Stage::Conditions, self.failing(facts)),
            Verdict::Unknown(errors) => (Stage::NotEvaluated, self.unknown(&errors)),
        }
    }

    fn failing(&self, facts: &Facts<'_>) -> String {
        let failing = self.conditions.iter().filter(|condition| condition.holds(facts) == Ok(false));
        let each = failing.map(|condition| {
            format!("condition `{}` does not hold: {}", condition.field, condition.found(facts))
        });
        each.collect::<Vec<_>>().join("; ")
    }

    fn unknown(&self, errors: &[EvaluationError<'_>]) -> String {
        let each: Vec<_> =
            errors.iter().map(|error| format!("`{}`: {}", error.field, error.message)).collect();
        let so = if self.effect == Effect::Deny { "so it denies" } else { "so it does not apply" };
        format!("it could not be evaluated, {so}: {}", each.join("; "))
    }
}

fn no_match(what: &str, text: &str, patterns: &[Pattern]) -> String {
    const LISTED: usize = 10;
    let mut listed: Vec<_> =
        patterns.iter().take(LISTED).map(|pattern| format!("`{}`", shown(pattern.as_str()))).collect();
    if patterns.len() > LISTED {
        listed.push(format!("and {} more", patterns.len() - LISTED));
    }
    format!("{what} `{}` does not match {}", shown(text), listed.join(", "))
}
