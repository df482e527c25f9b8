//! Wall-clock time of a run.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::trace::Seconds;

/// Start of every run.
const EPOCH: Seconds = 1_800_000_000;

pub(crate) fn timestamp(now: Seconds) -> Timestamp {
    let start = Timestamp::from_second(EPOCH).unwrap_or_default();
    start
        .checked_add(SignedDuration::from_secs(now))
        .unwrap_or(start)
}
