//! The crate through its public interface.

mod cases;
mod hostile;
mod properties;
