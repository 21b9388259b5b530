//! What the runtime needs from the program around it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::LogRecord;

/// Keeps the policies' context and takes their logs.
#[async_trait]
pub trait Host: Send + Sync {
    /// Carry out one context operation, atomically. The reply's shape is the operation's; an error's text is
    /// raised in the policy.
    async fn context(&self, policy_uri: &str, operation: ContextOp) -> Result<Value, String>;

    /// Take a log record, at the moment that it is made. Must not block.
    fn log(&self, policy_uri: &str, record: &LogRecord);
}

/// An operation on a policy's context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ContextOp {
    /// The value at a key. Reply: `{"found": bool, "value": …}`.
    Get {
        /// The key.
        key: String,
    },
    /// Store a value. Reply: anything.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: Value,
        /// Seconds after which it is gone; never when absent.
        #[serde(default)]
        ttl_seconds: Option<f64>,
    },
    /// Remove a key. Reply: `{"found": bool}`.
    Delete {
        /// The key.
        key: String,
    },
    /// Remove a key and give its value. Reply: `{"found": bool, "value": …}`.
    Pop {
        /// The key.
        key: String,
    },
    /// Store a value unless there is one. Reply: the value that is there now.
    SetDefault {
        /// The key.
        key: String,
        /// The value.
        value: Value,
    },
    /// Add to a number, 0 when there is none. Reply: the sum. An error when it is no number.
    Incr {
        /// The key.
        key: String,
        /// What to add: an integer or a float.
        by: Value,
    },
    /// Reply: an array of all keys.
    Keys,
    /// Reply: an object of all entries, or an array of `[key, value]`.
    Items,
    /// Reply: how many entries.
    Len,
    /// Remove all. Reply: anything.
    Clear,
    /// Store several. Reply: anything.
    Update {
        /// The entries.
        entries: Map<String, Value>,
    },
}
