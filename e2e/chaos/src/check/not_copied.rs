//! After everything has healed, the copiers come to the end of the topic that they copy: no
//! transaction hangs, and no transactional id is stuck.

use std::collections::HashMap;

use super::{Anomaly, Facts};
use crate::history::{History, Partition, Role, What};

pub(super) const NAME: &str = "not-copied";

/// A partition that the copiers have not come to the end of.
pub(crate) struct Missing<'a> {
    partition: &'a Partition,
    copied: i64,
    end: i64,
}

/// What the copiers still have to do. Which topic they copy is known as soon as one of them has
/// partitions; until then it may be any.
pub(crate) fn missing(history: &History) -> Vec<Missing<'_>> {
    let mut highest = HashMap::new();
    for event in history.of_role(Role::Copier) {
        if let What::Copied(partition, offset) = &event.what {
            let highest = highest.entry(partition).or_insert(*offset);
            *highest = (*highest).max(*offset);
        }
    }
    let source = super::source(history);
    let extents = super::extents(history);
    let of_source =
        extents.filter(|(partition, _)| source.is_none_or(|topic| partition.topic == *topic));
    let progress = of_source.map(|(partition, end)| Missing {
        partition,
        copied: highest.get(partition).copied().unwrap_or(0),
        end,
    });
    progress.filter(|one| one.copied < one.end).collect()
}

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let anomaly = |missing: Missing<'_>| {
        let Missing {
            partition,
            copied,
            end,
        } = missing;
        Anomaly {
            invariant: NAME,
            at_us: 0,
            place: Some((partition.clone(), Some(copied))),
            messages: Vec::new(),
            what: format!("{partition} is copied up to {copied}, and ends at {end}"),
        }
    };
    missing(facts.history).into_iter().map(anomaly).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn copiers_that_stop_before_the_end_are_found() {
        let found = find(NAME, "c copied 12 t 0 2", &["c copied 12 t 0 1"]);
        assert!(
            found[0].what.contains("up to 1, and ends at 2"),
            "{found:?}"
        );
    }

    #[test]
    fn a_partition_that_no_copier_has_got_is_found() {
        let other = ["r extent 14 t 0 2", "r extent 14 t 1 7"];
        assert_eq!(find(NAME, "r extent 14 t 0 2", &other).len(), 1);
    }

    #[test]
    fn what_is_not_to_be_copied_is_not_missing() {
        let other = ["r extent 14 t 0 2", "r extent 14 other 0 7"];
        assert_eq!(find(NAME, "r extent 14 t 0 2", &other), []);
    }
}
