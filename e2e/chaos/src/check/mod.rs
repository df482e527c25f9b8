//! What clients of a correct cluster may see: one invariant a file, each a pure function of the
//! history.

mod committed;
mod contiguous;
mod disappeared;
mod duplicate;
mod fatal;
mod lost;
pub(crate) mod memory;
mod one_value;
mod order;
pub(crate) mod progress;
mod torn;
mod unseen;

use std::collections::BTreeMap;

use crate::history::{History, Message, Partition, Role, What};

/// A violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anomaly {
    /// The name of the invariant
    pub(crate) invariant: &'static str,
    pub(crate) at_us: u64,
    /// Where, if it is about a place in a log
    pub(crate) place: Option<(Partition, Option<i64>)>,
    /// Which messages are concerned
    pub(crate) messages: Vec<Message>,
    pub(crate) what: String,
}

/// A history, with the indexes that several checks use.
pub(crate) struct Facts<'a> {
    pub(crate) history: &'a History,
    /// What the reader found after everything had healed
    pub(crate) finally: BTreeMap<&'a Partition, BTreeMap<i64, &'a Message>>,
    /// Up to where the reader was to read
    pub(crate) extents: BTreeMap<&'a Partition, i64>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        let mut finally: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        let mut extents = BTreeMap::new();
        for event in history.of_role(Role::Reader) {
            match &event.what {
                What::Read(partition, offset, message) => {
                    finally
                        .entry(partition)
                        .or_default()
                        .insert(*offset, message);
                }
                What::Extent(partition, end) => {
                    finally.entry(partition).or_default();
                    extents.insert(partition, *end);
                }
                _ => {}
            }
        }
        Self {
            history,
            finally,
            extents,
        }
    }

    fn finally_at(&self, partition: &Partition, offset: i64) -> Option<&'a Message> {
        self.finally.get(partition)?.get(&offset).copied()
    }
}

/// What finds the violations of an invariant.
type Check = fn(&Facts<'_>) -> Vec<Anomaly>;

/// All invariants of a history.
const CHECKS: [Check; 10] = [
    lost::check,
    duplicate::check,
    order::check,
    one_value::check,
    disappeared::check,
    contiguous::check,
    committed::check,
    unseen::check,
    torn::check,
    fatal::check,
];

/// Every violation of every invariant.
pub(crate) fn check(history: &History) -> Vec<Anomaly> {
    let facts = Facts::new(history);
    CHECKS.iter().flat_map(|check| check(&facts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_history_has_no_anomaly() {
        assert_eq!(check(&history(&GOOD)), []);
    }

    /// The history of clients named by their lines: `p ` a producer, `m `, `n ` members, `r ` the
    /// reader.
    pub(super) fn history(lines: &[&str]) -> History {
        let mut history = History::default();
        let roles = [
            ('p', Role::Producer),
            ('m', Role::Member),
            ('n', Role::Member),
            ('r', Role::Reader),
        ];
        for (name, role) in roles {
            history.add_client(&name.to_string(), role);
        }
        for line in lines {
            let (client, event) = line.split_once(' ').unwrap();
            let index = roles
                .iter()
                .position(|(name, _)| client == name.to_string());
            history.add_line(index.unwrap(), event).unwrap();
        }
        history
    }

    /// What a correct cluster gives: two messages, sent, consumed, committed, read.
    pub(super) const GOOD: [&str; 16] = [
        "p invoke 1 t 0 a 0",
        "p ok 2 t 0 0 a 0",
        "p invoke 3 t 0 a 1",
        "p ok 4 t 0 1 a 1",
        "m assigned 5 t 0 0",
        "m read 6 t 0 0 a 0",
        "m commit 7 t 0 1",
        "m revoked 8",
        "n assigned 9 t 0 1",
        "n read 10 t 0 1 a 1",
        "n commit 11 t 0 2",
        "r read 12 t 0 0 a 0",
        "r read 13 t 0 1 a 1",
        "r extent 14 t 0 2",
        "r end 15 0",
        "p end 16 0",
    ];

    /// The good history with one line replaced by others; what the named check then finds.
    pub(super) fn find(name: &str, line: &str, replacement: &[&str]) -> Vec<Anomaly> {
        assert!(GOOD.contains(&line), "{line}");
        let lines: Vec<_> = GOOD
            .iter()
            .flat_map(|good| {
                if *good == line {
                    replacement
                } else {
                    std::slice::from_ref(good)
                }
            })
            .copied()
            .collect();
        let found = check(&history(&lines));
        found.into_iter().filter(|a| a.invariant == name).collect()
    }
}
