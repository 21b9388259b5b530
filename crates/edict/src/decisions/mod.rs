//! The policy engine: decides what is allowed.

pub(crate) mod log;
