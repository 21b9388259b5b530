//! Decisions: which action on which resource is allowed, to whom, and why.
//!
//! A [`Policy`] allows or denies. A [`PolicySet`] is compiled once from many of them and then asked, by
//! [`PolicySet::evaluate`], what holds for a [`Request`]; [`PolicySet::explain`] says of every policy why it did or
//! did not apply. Nothing is allowed unless a policy allows it, and any deny that applies wins.
//!
//! ```
//! use edict_engine::{Answers, Policy, PolicySet, Request};
//! use serde_json::json;
//!
//! let policy = Policy::from_value(&json!({
//!     "name": "heal-pods", "type": "self_healing", "effect": "allow",
//!     "actions": ["restart_pod"], "resources": ["pod:*"],
//!     "conditions": {"role": "service", "metadata": {"severity": {"$in": ["high", "critical"]}}},
//! }))?;
//! let set = PolicySet::compile(vec![policy]).map_err(|errors| errors[0].clone())?;
//!
//! let text = br#"{"action": "restart_pod", "resource": "pod:api-7", "type": "self_healing",
//!                 "context": {"role": "service", "metadata": {"severity": "high"}}}"#;
//! let request = Request::from_json(text)?;
//! let decision = set.evaluate(&request, "2026-11-22T08:00:00Z".parse()?, &Answers::default());
//! assert!(decision.allowed);
//! assert_eq!(decision.reason, "allowed by policy `heal-pods`");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The crate does no input or output and has no clock: the time is a parameter, and policies whose condition is a
//! Python policy are answered by the caller ([`PolicySet::questions`], [`Answers`]).
//!
//! INVARIANT (fail closed): a deny that cannot be evaluated denies, an allow that cannot be evaluated does not
//! apply, and the decision lists what could not be evaluated.

mod condition;
mod decision;
mod explain;
mod facts;
mod fault;
mod index;
mod pattern;
mod policy;
mod pool;
mod request;
mod set;

pub use decision::{Answers, Decision, EvaluationError};
pub use explain::{Considered, Explanation, Stage};
pub use fault::{Fault, PolicyError, RequestError};
pub use jiff::Timestamp;
pub use policy::{Effect, Policy};
pub use request::Request;
pub use set::PolicySet;
