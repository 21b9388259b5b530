//! When a decision was made, and its id.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// One look at the clock, and an id that sorts by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// UUID, version 7: milliseconds, then the fraction of one in 12 bits, then what makes it unique.
    pub(crate) id: Uuid,
    /// Microseconds since 1970.
    pub(crate) at: i64,
}

impl Stamp {
    /// Now. Ids are for finding decisions, not for guarding them: so they are counted from a random start, which takes
    /// no call of the kernel.
    pub(crate) fn now() -> Self {
        static START: LazyLock<u64> = LazyLock::new(|| Uuid::new_v4().as_u64_pair().1);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = crate::micros(since);
        let unique = START.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        Self { id: id(at.unsigned_abs(), unique), at }
    }
}

/// The least id of a moment, in microseconds since 1970: those of decisions made then or later are not less.
pub(super) fn first_id(at: i64) -> Uuid {
    id(at.max(0).unsigned_abs(), 0)
}

fn id(at: u64, unique: u64) -> Uuid {
    const UNIQUE: u64 = (1 << 62) - 1;
    let (milliseconds, fraction) = (at / 1000, at % 1000 * 4096 / 1000);
    Uuid::from_u64_pair(milliseconds << 16 | 7 << 12 | fraction, 2 << 62 | (unique & UNIQUE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_version_7_and_differ() {
        let stamps: Vec<Stamp> = (0..1000).map(|_| Stamp::now()).collect();
        assert!(stamps.iter().all(|stamp| stamp.id.get_version_num() == 7));
        let distinct: std::collections::HashSet<Uuid> = stamps.iter().map(|stamp| stamp.id).collect();
        assert_eq!(distinct.len(), stamps.len());
        let (seconds, nanoseconds) = stamps[0].id.get_timestamp().unwrap().to_unix();
        assert_eq!(seconds * 1000 + u64::from(nanoseconds) / 1_000_000, stamps[0].at.unsigned_abs() / 1000);
    }

    #[test]
    fn ids_sort_by_time_to_the_microsecond() {
        let text = |at, unique| id(at, unique).to_string();
        for at in (1_763_800_000_000_000..).step_by(37).take(2000) {
            assert!(text(at, u64::MAX) < text(at + 1, 0), "{at}");
            assert!(first_id(at.cast_signed()) <= id(at, 5));
        }
    }
}
