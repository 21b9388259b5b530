//! Choosing the executor for a job or function that names none: a policy does, see `policies/default_allocator`.

mod candidates;
mod choose;
mod default;
mod fits;

pub(crate) use choose::{Request, choose};
pub(crate) use default::register_default;
pub(crate) use fits::check;
