//! Whether a disk has become so slow that replicas on it should not lead (a gray failure: it still
//! answers, so that nothing else takes the broker out).
//!
//! A disk is judged by windows of activity. It is slow after enough bad windows, and well again after
//! a time without any. That time doubles with every relapse, so that leaders do not wander to and
//! fro.

use crate::{Duration, Time};

/// Windows that are looked back on.
const WINDOWS: u32 = 10;
/// Bad ones among them that make a slow disk.
const BAD_WINDOWS: u32 = 5;
/// One of so many operations being slow makes a window bad.
const SLOW_SHARE: u32 = 10;
/// A disk on which everything waits for this many times the threshold makes a window bad.
const STALL_FACTOR: u32 = 2;
/// How long a slow disk must be well before it counts as such, at first and at most.
const COOL_DOWN_MIN: Duration = Duration::from_secs(60);
const COOL_DOWN_MAX: Duration = Duration::from_secs(3_600);

/// What happened on a disk between two looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskWindow {
    /// Writes and syncs that ended.
    pub operations: u32,
    /// Those of them that took longer than the threshold.
    pub slow_operations: u32,
    pub longest: Duration,
    /// How long operations have been under way without any of them ending.
    pub stalled: Duration,
}

/// A disk's history.
#[derive(Clone, Debug)]
pub struct SlowDisk {
    threshold: Duration,
    /// The last windows, one bit each, set for a bad one.
    bad: u32,
    last_bad: Option<Time>,
    slow: bool,
    cool_down: Duration,
}

impl SlowDisk {
    /// A disk that is well. An operation is slow from `threshold` on.
    #[must_use]
    pub const fn new(threshold: Duration) -> Self {
        Self {
            threshold,
            bad: 0,
            last_bad: None,
            slow: false,
            cool_down: COOL_DOWN_MIN,
        }
    }

    /// Takes the next window into account. Returns whether the disk is slow now.
    pub fn handle_window(&mut self, now: Time, window: &DiskWindow) -> bool {
        let bad = self.is_bad(window);
        // A window in which nothing happened says nothing.
        if bad || window.operations > 0 {
            self.bad = (self.bad << 1 | u32::from(bad)) & ((1 << WINDOWS) - 1);
        }
        if bad {
            self.last_bad = Some(now);
        }
        let well_for = self.last_bad.map(|at| now.since(at));
        if self.slow {
            if well_for.is_none_or(|time| time >= self.cool_down) {
                self.slow = false;
                self.bad = 0;
                self.cool_down = (self.cool_down * 2).min(COOL_DOWN_MAX);
            }
        } else if bad && self.bad.count_ones() >= BAD_WINDOWS {
            self.slow = true;
        } else if well_for.is_some_and(|time| time >= COOL_DOWN_MAX) {
            self.cool_down = COOL_DOWN_MIN;
        }
        self.slow
    }

    fn is_bad(&self, window: &DiskWindow) -> bool {
        let slow = window.slow_operations;
        let often = slow > 0 && slow.saturating_mul(SLOW_SHARE) >= window.operations;
        often || window.stalled >= self.threshold * STALL_FACTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn disk() -> SlowDisk {
        SlowDisk::new(SECOND)
    }

    fn window(operations: u32, slow_operations: u32) -> DiskWindow {
        DiskWindow {
            operations,
            slow_operations,
            ..DiskWindow::default()
        }
    }

    /// Feeds one window a second and returns when the verdict changed to `slow`.
    fn seconds_until(
        disk: &mut SlowDisk,
        from: &mut Time,
        window: &DiskWindow,
        slow: bool,
    ) -> Option<u64> {
        let begin = from.0;
        for _ in 0..10_000 {
            *from = from.plus(SECOND);
            if disk.handle_window(*from, window) == slow {
                return Some((from.0 - begin) / 1_000);
            }
        }
        None
    }

    #[test]
    fn a_slow_disk_is_noticed_within_five_seconds_and_a_single_hiccup_is_not() {
        let (mut disk, mut now) = (disk(), Time(0));
        assert!(!disk.handle_window(now, &window(10, 10)));
        for _ in 0..100 {
            now = now.plus(SECOND);
            assert!(!disk.handle_window(now, &window(1_000, 1)));
        }
        assert_eq!(
            seconds_until(&mut disk, &mut now, &window(10, 1), true),
            Some(5)
        );
    }

    #[test]
    fn a_disk_on_which_everything_hangs_is_slow_although_nothing_ends() {
        let (mut disk, mut now) = (disk(), Time(0));
        let hanging = DiskWindow {
            stalled: 2 * SECOND,
            ..DiskWindow::default()
        };
        assert_eq!(seconds_until(&mut disk, &mut now, &hanging, true), Some(5));
    }

    #[test]
    fn every_relapse_doubles_the_time_a_disk_must_be_well() {
        let (mut disk, mut now) = (disk(), Time(0));
        for cool_down in [60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            seconds_until(&mut disk, &mut now, &window(10, 10), true).unwrap();
            let healed = seconds_until(&mut disk, &mut now, &window(10, 0), false);
            assert_eq!(healed, Some(cool_down));
        }
        for _ in 0..3_600 {
            now = now.plus(SECOND);
            disk.handle_window(now, &window(10, 0));
        }
        seconds_until(&mut disk, &mut now, &window(10, 10), true).unwrap();
        let healed = seconds_until(&mut disk, &mut now, &window(10, 0), false);
        assert_eq!(healed, Some(60), "after an hour without a relapse");
    }

    #[test]
    fn an_idle_disk_keeps_its_history_and_recovers_with_time() {
        let (mut disk, mut now) = (disk(), Time(0));
        for _ in 0..4 {
            now = now.plus(SECOND);
            disk.handle_window(now, &window(1, 1));
        }
        for _ in 0..30 {
            now = now.plus(SECOND);
            assert!(!disk.handle_window(now, &window(0, 0)));
        }
        now = now.plus(SECOND);
        assert!(disk.handle_window(now, &window(1, 1)));
        assert_eq!(
            seconds_until(&mut disk, &mut now, &window(0, 0), false),
            Some(60)
        );
    }
}
