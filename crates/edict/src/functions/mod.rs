//! Functions (Type 4): policies deployed as long-lived services.

use crate::error::{ApiError, Code};
use serde_json::value::RawValue;

/// The functions that this process can call: its own executor's, and through their executors all others.
#[derive(Default)]
pub(crate) struct Functions {}

impl Functions {
    /// Calls a function: its input is checked, a replica evaluates it, its output is checked.
    ///
    /// # Errors
    /// 404 when there is no such function, 422 when the input does not fit, 429 when its queue is full, 502 when the
    /// policy fails or its replica ends, 503 when no replica takes calls, 504 when time runs out.
    pub(crate) async fn call(&self, name: &str, _input: &RawValue) -> Result<Box<RawValue>, ApiError> {
        let shown = crate::shorten(name);
        Err(ApiError::new(Code::FunctionNotFound, format!("there is no function `{shown}`")))
    }
}
