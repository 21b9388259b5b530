//! The runtime with a real Python in a real sandbox.

mod check;
mod context;
mod hostile;
mod lifecycle;
mod runs;
mod support;
