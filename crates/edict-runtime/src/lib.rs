//! What runs policies: code bundles and the environments of their requirements.

pub mod bundle;
pub mod environment;
mod flight;
