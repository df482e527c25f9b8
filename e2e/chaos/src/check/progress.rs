//! After a fault has healed, every partition acknowledges again within a bound; and how long each
//! fault kept one from doing so.

use std::collections::{BTreeMap, BTreeSet};

use super::Anomaly;
use crate::clock::seconds;
use crate::history::{History, Partition, What};

pub(crate) const NAME: &str = "no-progress";

/// A fault that was injected and healed.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Fault {
    pub(crate) nemesis: &'static str,
    /// What it did
    pub(crate) what: String,
    pub(crate) start_us: u64,
    /// When it had healed
    pub(crate) stop_us: u64,
    /// Until when producers were observed after it
    pub(crate) end_us: u64,
    /// The longest time without an acknowledgement on one partition, from the start on
    pub(crate) stall_us: u64,
}

/// The times of acknowledgements by partition, rising.
fn acknowledgements(history: &History) -> BTreeMap<&Partition, BTreeSet<u64>> {
    let mut times: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for event in &history.events {
        match &event.what {
            What::Acknowledged(partition, ..) | What::AcknowledgedBefore(partition, _) => {
                times.entry(partition).or_default().insert(event.at_us);
            }
            What::Invoked(partition, _) => {
                times.entry(partition).or_default();
            }
            _ => {}
        }
    }
    times
}

/// Fills in the stall of each fault.
pub(crate) fn measure(history: &History, faults: &mut [Fault]) {
    let times = acknowledgements(history);
    for fault in faults {
        let stalls = times.values().map(|times| {
            let inside = times.range(fault.start_us..fault.end_us).copied();
            let mut last = fault.start_us;
            let gaps = inside.chain([fault.end_us]).map(|at| {
                let gap = at - last;
                last = at;
                gap
            });
            gaps.max().unwrap_or(0)
        });
        fault.stall_us = stalls.max().unwrap_or(0);
    }
}

/// Partitions that acknowledge nothing for longer than `limit_us` after a fault has healed.
pub(crate) fn check(history: &History, faults: &[Fault], limit_us: u64) -> Vec<Anomaly> {
    let times = acknowledgements(history);
    let mut anomalies = Vec::new();
    for fault in faults {
        for (partition, times) in &times {
            let next = times.range(fault.stop_us..).next();
            let waited_us = next.unwrap_or(&fault.end_us).saturating_sub(fault.stop_us);
            if waited_us > limit_us {
                anomalies.push(Anomaly {
                    invariant: NAME,
                    at_us: fault.stop_us,
                    place: Some(((*partition).clone(), None)),
                    messages: Vec::new(),
                    what: format!(
                        "{partition} acknowledged nothing for {:.1} s after {} had healed: {}",
                        seconds(waited_us),
                        fault.nemesis,
                        fault.what
                    ),
                });
            }
        }
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::super::tests::history;
    use super::*;

    #[test]
    fn a_partition_that_stays_silent_is_found_and_stalls_are_measured() {
        let history = history(&[
            "p ok 10 t 0 0 a 0",
            "p ok 12 t 1 0 a 1",
            "p ok 40 t 0 1 a 2",
            "p ok 90 t 1 1 a 3",
        ]);
        let mut faults = [Fault {
            nemesis: "kill",
            what: String::new(),
            start_us: 11,
            stop_us: 30,
            end_us: 100,
            stall_us: 0,
        }];
        measure(&history, &mut faults);
        assert_eq!(faults[0].stall_us, 78);
        assert_eq!(check(&history, &faults, 60), []);
        let found = check(&history, &faults, 50);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.starts_with("t-1 "), "{found:?}");
    }
}
