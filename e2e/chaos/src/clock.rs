//! The time in histories: microseconds of the monotonic clock, which all processes of a machine
//! share and no clock jump moves.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since the machine started.
pub(crate) fn now_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("the monotonic clock begins at 0");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("a part of a second");
    seconds * 1_000_000 + nanoseconds / 1_000
}

/// Microseconds as seconds.
pub(crate) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
