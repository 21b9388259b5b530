//! A time limit for SQLite queries.

use super::StoreError;
use sqlx::SqliteConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Steps of SQLite's machine between two looks at the clock; about a millisecond.
const STEPS: i32 = 50_000;

/// Interrupts what its connection runs once the time is over. Dropping it lifts the limit, also when the query's
/// future is dropped half-way: the connection's next query must not inherit an old deadline.
pub(super) struct Deadline(Arc<AtomicBool>);

impl Deadline {
    pub(super) async fn set(connection: &mut SqliteConnection, limit: Duration) -> Result<Self, StoreError> {
        let armed = Arc::new(AtomicBool::new(true));
        let end = Instant::now() + limit;
        let still = Arc::clone(&armed);
        let go_on = move || !still.load(Ordering::Relaxed) || Instant::now() < end;
        connection.lock_handle().await?.set_progress_handler(STEPS, go_on);
        Ok(Self(armed))
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
