//! The only place where the shell reads clocks for the pure crates.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use broker_core::{Time, Timestamp};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Monotonic time since the process asked first.
#[must_use]
pub fn now() -> Time {
    Time(u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Wall-clock time for records.
#[must_use]
pub fn timestamp() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
