//! The crate's promises, through its public interface.

mod archives;
mod bundle;
mod environment;
mod fetch;
mod store;
