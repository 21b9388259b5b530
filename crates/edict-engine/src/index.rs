//! Finds the few policies that may apply to a request, whatever the number of policies.
//!
//! A policy is filed under what it fixes: its type, each exact action, each user or role, and of each resource the
//! whole text or its literal beginning or end. The combinations that occur (*shapes*, a handful in practice) are
//! looked up one by one with what the request has in these places. So the cost grows with the number of shapes, and
//! with the number of policies that fix the same things.
//!
//! INVARIANT (superset): what applies is always among the candidates. Hashes only ever add candidates, and every
//! candidate is matched in full afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
};

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use crate::{
    condition::{Condition, Test},
    facts::Facts,
    pattern::Pattern,
};

/// A policy with more combinations than this is filed under fewer of its properties.
const MAX_ENTRIES: usize = 512;

/// Positions of policies in their set, ascending.
pub(crate) type Rows = SmallVec<[u32; 16]>;

#[derive(Debug, Default)]
pub(crate) struct Index {
    shapes: Vec<(Place, Vec<Rest>)>,
    /// From the key of an entry to a range in `rows`.
    entries: FxHashMap<u64, (u32, u32)>,
    rows: Vec<u32>,
}

/// What is fixed of the resource; lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Any,
    Exact,
    Prefix(u16),
    Suffix(u16),
}

/// What else is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rest {
    kind: bool,
    action: bool,
    who: Who,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Anyone,
    User,
    Role,
}

/// What the index reads of a policy.
pub(crate) struct Filed<'p> {
    /// `None` for every type.
    pub(crate) kind: Option<&'p str>,
    pub(crate) actions: &'p [Pattern],
    pub(crate) resources: &'p [Pattern],
    pub(crate) conditions: &'p [Condition],
}

#[derive(Default)]
pub(crate) struct Builder {
    shapes: BTreeMap<Place, BTreeSet<Rest>>,
    entries: BTreeMap<u64, Vec<u32>>,
}

impl Builder {
    pub(crate) fn add(&mut self, row: u32, policy: &Filed<'_>) {
        let resources: BTreeSet<(Place, u64)> = policy.resources.iter().map(place_of).collect();
        let mut actions: BTreeSet<Option<u64>> = policy.actions.iter().map(action_of).collect();
        let (mut who, mut names) = who_of(policy.conditions);
        if resources.len() * actions.len() * names.len() > MAX_ENTRIES {
            (who, names) = (Who::Anyone, vec![0]);
        }
        if resources.len() * actions.len() > MAX_ENTRIES {
            actions = BTreeSet::from([None]);
        }
        let kind = policy.kind.map(hash);
        for (place, place_hash) in resources {
            for action in &actions {
                let rest = Rest { kind: kind.is_some(), action: action.is_some(), who };
                self.shapes.entry(place).or_default().insert(rest);
                for name in &names {
                    let key = key(place, place_hash, rest, [kind.unwrap_or(0), action.unwrap_or(0), *name]);
                    let rows = self.entries.entry(key).or_default();
                    if rows.last() != Some(&row) {
                        rows.push(row);
                    }
                }
            }
        }
    }

    pub(crate) fn finish(self) -> Index {
        let mut index = Index { entries: FxHashMap::default(), ..Index::default() };
        index.shapes =
            self.shapes.into_iter().map(|(place, rests)| (place, rests.into_iter().collect())).collect();
        index.entries.reserve(self.entries.len());
        for (key, rows) in self.entries {
            let start = index.rows.len();
            index.rows.extend(rows);
            index.entries.insert(key, (position(start), position(index.rows.len())));
        }
        index
    }
}

impl Index {
    pub(crate) fn candidates(&self, facts: &Facts<'_>) -> Rows {
        let mut found = Rows::new();
        let (kind, action) = (hash(facts.kind), hash(facts.action));
        let user = facts.user.map(hash);
        let roles: SmallVec<[u64; 8]> = facts.roles().map(hash).collect();
        let mut forwards = Walk::new(facts.resource.bytes());
        let mut backwards = Walk::new(facts.resource.bytes().rev());
        for (place, rests) in &self.shapes {
            let place_hash = match place {
                Place::Any => Some(0),
                Place::Exact => Some(hash(facts.resource)),
                // Shapes are sorted, so that each walk only ever goes on.
                Place::Prefix(length) => forwards.to(*length),
                Place::Suffix(length) => backwards.to(*length),
            };
            let Some(place_hash) = place_hash else { continue };
            for rest in rests {
                let kind = if rest.kind { kind } else { 0 };
                let action = if rest.action { action } else { 0 };
                let mut look_up = |who| {
                    let range = self.entries.get(&key(*place, place_hash, *rest, [kind, action, who]));
                    found.extend(range.into_iter().flat_map(|(from, to)| self.slice(*from, *to)).copied());
                };
                match rest.who {
                    Who::Anyone => look_up(0),
                    Who::User => user.into_iter().for_each(look_up),
                    Who::Role => roles.iter().copied().for_each(look_up),
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn slice(&self, from: u32, to: u32) -> &[u32] {
        self.rows.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// The hash of more and more of a text, a byte at a time.
struct Walk<I> {
    bytes: I,
    length: u16,
    hasher: FxHasher,
}

impl<I: Iterator<Item = u8>> Walk<I> {
    fn new(bytes: I) -> Self {
        Self { bytes, length: 0, hasher: FxHasher::default() }
    }

    /// `None` if the text is shorter.
    fn to(&mut self, length: u16) -> Option<u64> {
        while self.length < length {
            self.hasher.write_u8(self.bytes.next()?);
            self.length += 1;
        }
        Some(self.hasher.finish())
    }
}

fn place_of(pattern: &Pattern) -> (Place, u64) {
    if pattern.is_exact() {
        return (Place::Exact, hash(pattern.as_str()));
    }
    let (prefix, suffix) = (pattern.prefix(), pattern.suffix());
    let (before, after) = (indexed_length(prefix.len()), indexed_length(suffix.len()));
    let (place, hash) = match before >= after {
        true if before == 0 => (Place::Any, Some(0)),
        true => (Place::Prefix(before), Walk::new(prefix.bytes()).to(before)),
        false => (Place::Suffix(after), Walk::new(suffix.bytes().rev()).to(after)),
    };
    (place, hash.unwrap_or_default())
}

/// How much of a literal end is looked at. Few lengths, whatever the policies hold: each costs every request a look-up.
fn indexed_length(length: usize) -> u16 {
    const FINE: usize = 32;
    const MOST: usize = 256;
    let length = if length <= FINE { length } else { (length - length % 16).min(MOST) };
    u16::try_from(length).unwrap_or_default()
}

fn action_of(pattern: &Pattern) -> Option<u64> {
    pattern.is_exact().then(|| hash(pattern.as_str()))
}

/// Users before roles: they are fewer to a policy.
fn who_of(conditions: &[Condition]) -> (Who, Vec<u64>) {
    let hashes = |names: &[Box<str>]| {
        names.iter().map(|name| hash(name)).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let mut who = (Who::Anyone, vec![0]);
    for condition in conditions {
        match &condition.test {
            Test::User(names) => return (Who::User, hashes(names)),
            Test::Role(names) if who.0 == Who::Anyone => who = (Who::Role, hashes(names)),
            _ => {}
        }
    }
    who
}

fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

fn key(place: Place, place_hash: u64, rest: Rest, fixed: [u64; 3]) -> u64 {
    let place = match place {
        Place::Any => 0,
        Place::Exact => 1,
        Place::Prefix(length) => u64::from(length) << 2 | 2,
        Place::Suffix(length) => u64::from(length) << 2 | 3,
    };
    let shape = place << 8 | u64::from(rest.kind) << 3 | u64::from(rest.action) << 2 | rest.who as u64;
    let mut hasher = FxHasher::default();
    [shape, place_hash].into_iter().chain(fixed).for_each(|part| hasher.write_u64(part));
    hasher.finish()
}

/// Positions fit: a set holds fewer than 2^32 entries.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
