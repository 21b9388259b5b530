//! A set of policies, compiled, and how it decides.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use crate::{
    Answers, Decision, Effect, EvaluationError, Policy, Request,
    condition::{Condition, Test},
    facts::Facts,
    fault::{Fault, PolicyError, shown},
    index::{Builder, Filed, Index},
    pattern::Pattern,
    pool::Pool,
};

const MAX_POLICIES: usize = 1_000_000;

/// Decision policies compiled into an index.
///
/// It never changes: to change a policy compile a new set and swap the whole, so that no evaluation sees half of it.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// The highest priority first, then by name: the order of everything that is listed.
    pub(crate) rules: Vec<Rule>,
    index: Index,
    /// Whether any policy asks a Python policy.
    asks: bool,
}

/// A compiled policy.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    pub(crate) effect: Effect,
    pub(crate) priority: u16,
    pub(crate) active: bool,
    /// `None` for every type.
    pub(crate) kind: Option<Arc<str>>,
    pub(crate) actions: Arc<[Pattern]>,
    pub(crate) resources: Arc<[Pattern]>,
    pub(crate) conditions: Arc<[Condition]>,
    /// What a decision says when this policy decides; ready, because most decisions say it.
    reason: Box<str>,
}

/// Whether the conditions of a policy hold.
pub(crate) enum Verdict<'s> {
    Holds,
    Fails,
    /// None of them fails, and these could not be evaluated.
    Unknown(Vec<EvaluationError<'s>>),
}

impl PolicySet {
    /// Compiles policies, all or none.
    ///
    /// # Errors
    /// Each policy that has a fault, with all of its faults; also those that share their name with an earlier one.
    pub fn compile(policies: Vec<Policy>) -> Result<Self, Vec<PolicyError>> {
        let (set, unreadable) = Self::compile_stored(policies)?;
        if unreadable.is_empty() { Ok(set) } else { Err(unreadable) }
    }

    /// Compiles policies that were accepted earlier, and keeps those with conditions that this version cannot read
    /// (written by a newer one, or changed behind its back): these conditions cannot be evaluated, so that a deny
    /// denies wherever its readable parts apply and an allow does not apply. The second part lists them.
    ///
    /// # Errors
    /// Each policy with a fault elsewhere than in its conditions.
    pub fn compile_stored(policies: Vec<Policy>) -> Result<(Self, Vec<PolicyError>), Vec<PolicyError>> {
        if policies.len() > MAX_POLICIES {
            let message = format!("has {} policies; it takes at most {MAX_POLICIES}", policies.len());
            return Err(vec![PolicyError {
                policy: String::new(),
                faults: vec![Fault::new("policies", message)],
            }]);
        }
        let (mut broken, mut unreadable) = (Vec::new(), Vec::new());
        let mut rules = Vec::with_capacity(policies.len());
        let mut names = BTreeSet::new();
        let mut pool = Pool::default();
        for (position, policy) in policies.into_iter().enumerate() {
            let mut faults = policy.faults_but_conditions();
            if !names.insert(policy.name.clone()) {
                faults.push(Fault::new(
                    "name",
                    format!("is `{}`, like that of an earlier policy", shown(&policy.name)),
                ));
            }
            let (conditions, condition_faults) = pool.conditions(&policy.conditions);
            let name =
                if policy.name.is_empty() { format!("#{}", position + 1) } else { policy.name.clone() };
            if !faults.is_empty() {
                faults.extend(condition_faults);
                broken.push(PolicyError { policy: name, faults });
            } else if !condition_faults.is_empty() {
                unreadable.push(PolicyError { policy: name, faults: condition_faults });
            }
            rules.push(Rule::new(policy, conditions, &mut pool));
        }
        if !broken.is_empty() {
            broken.extend(unreadable);
            return Err(broken);
        }
        Ok((Self::assemble(rules), unreadable))
    }

    fn assemble(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| (Reverse(a.priority), &a.name).cmp(&(Reverse(b.priority), &b.name)));
        let mut builder = Builder::default();
        for (row, rule) in (0..).zip(&rules) {
            if rule.active {
                builder.add(row, &rule.filed());
            }
        }
        let asks = rules.iter().any(|rule| rule.question().is_some());
        Self { rules, index: builder.finish(), asks }
    }

    /// How many policies it holds, inactive ones included.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The Python policies (`policyRuleUri`) whose answer [`PolicySet::evaluate`] needs for this request: of the
    /// policies that no other condition rules out. Most often there is none, and this costs nothing when no policy of
    /// the set has such a condition.
    pub fn questions(&self, request: &Request<'_>, now: Timestamp) -> Vec<&str> {
        if !self.asks {
            return Vec::new();
        }
        let answers = Answers::default();
        let facts = Facts::new(request, now, &answers);
        // Without answers a policy that asks is never seen to hold, but may be seen to fail.
        let open =
            self.candidates(&facts).filter(|rule| !matches!(rule.conditions_hold(&facts), Verdict::Fails));
        let mut uris: Vec<&str> = open.filter_map(Rule::question).collect();
        uris.sort_unstable();
        uris.dedup();
        uris
    }

    /// Decides. `now` is compared with time ranges; `answers` are those to [`PolicySet::questions`].
    pub fn evaluate(&self, request: &Request<'_>, now: Timestamp, answers: &Answers) -> Decision<'_> {
        let facts = Facts::new(request, now, answers);
        let mut applied_policies = Vec::new();
        let mut errors = Vec::new();
        let (mut allow, mut deny) = (None, None);
        for rule in self.candidates(&facts) {
            let why = match rule.conditions_hold(&facts) {
                Verdict::Fails => continue,
                Verdict::Holds => None,
                // INVARIANT (fail closed)
                Verdict::Unknown(unknown) => {
                    let why = unknown.first().map(|error| format!("`{}`: {}", error.field, error.message));
                    errors.extend(unknown);
                    if rule.effect == Effect::Allow {
                        continue;
                    }
                    why
                }
            };
            applied_policies.push(&*rule.name);
            let decides = if rule.effect == Effect::Deny { &mut deny } else { &mut allow };
            decides.get_or_insert((rule, why));
        }
        let allowed = deny.is_none() && allow.is_some();
        let reason = match deny.or(allow) {
            Some((rule, None)) => Cow::Borrowed(&*rule.reason),
            Some((rule, Some(why))) => {
                Cow::Owned(format!("{} (it could not be evaluated: {why})", rule.reason))
            }
            None => Cow::Owned(nothing_applies(&facts)),
        };
        Decision { allowed, reason, applied_policies, errors }
    }

    /// The policies that apply but for their conditions, in the set's order.
    fn candidates(&self, facts: &Facts<'_>) -> impl Iterator<Item = &Rule> {
        let rows = self.index.candidates(facts);
        let rules = rows.into_iter().filter_map(|row| self.rules.get(row as usize));
        rules
            .filter(|rule| rule.is_of_kind(facts) && rule.is_for_resource(facts) && rule.is_for_action(facts))
    }
}

impl Rule {
    fn new(policy: Policy, conditions: Arc<[Condition]>, pool: &mut Pool) -> Self {
        let effect = if policy.effect == Effect::Allow { "allowed" } else { "denied" };
        let mut reason = format!("{effect} by policy `{}`", policy.name);
        if !policy.description.is_empty() {
            reason = format!("{reason}: {}", policy.description);
        }
        Self {
            name: policy.name.into(),
            effect: policy.effect,
            priority: policy.priority,
            active: policy.is_active,
            kind: (policy.kind != "*").then(|| pool.text(policy.kind)),
            actions: pool.patterns(policy.actions),
            resources: pool.patterns(policy.resources),
            conditions,
            reason: reason.into(),
        }
    }

    fn filed(&self) -> Filed<'_> {
        Filed {
            kind: self.kind.as_deref(),
            actions: &self.actions,
            resources: &self.resources,
            conditions: &self.conditions,
        }
    }

    pub(crate) fn is_of_kind(&self, facts: &Facts<'_>) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == facts.kind)
    }

    pub(crate) fn is_for_action(&self, facts: &Facts<'_>) -> bool {
        self.actions.iter().any(|pattern| pattern.matches(facts.action))
    }

    pub(crate) fn is_for_resource(&self, facts: &Facts<'_>) -> bool {
        self.resources.iter().any(|pattern| pattern.matches(facts.resource))
    }

    /// One condition that fails rules the policy out, whatever is unknown of the others: the order does not matter.
    pub(crate) fn conditions_hold<'s>(&'s self, facts: &Facts<'_>) -> Verdict<'s> {
        let mut unknown = Vec::new();
        for condition in self.conditions.iter() {
            match condition.holds(facts) {
                Ok(true) => {}
                Ok(false) => return Verdict::Fails,
                Err(message) => {
                    unknown.push(EvaluationError { policy: &self.name, field: &condition.field, message })
                }
            }
        }
        if unknown.is_empty() { Verdict::Holds } else { Verdict::Unknown(unknown) }
    }

    fn question(&self) -> Option<&str> {
        self.conditions.iter().find_map(|condition| match &condition.test {
            Test::Rule(uri) => Some(&**uri),
            _ => None,
        })
    }
}

fn nothing_applies(facts: &Facts<'_>) -> String {
    format!("no policy allows `{}` on `{}`", shown(facts.action), shown(facts.resource))
}
