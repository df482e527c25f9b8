//! What clients of a correct cluster may see: one invariant a file, each a pure function of the
//! history.

mod committed;
mod contiguous;
mod dirty_read;
mod disappeared;
mod duplicate;
mod exactly_once;
mod fatal;
mod lost;
pub(crate) mod memory;
pub(crate) mod not_copied;
mod one_value;
mod order;
pub(crate) mod progress;
mod torn;
mod unread;
mod unseen;

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Messages by partition and offset.
type Logs<'a> = BTreeMap<&'a Partition, BTreeMap<i64, &'a Message>>;

/// A history, with the indexes that several checks use.
pub(crate) struct Facts<'a> {
    pub(crate) history: &'a History,
    /// What the reader found of what was sent, after everything had healed
    pub(crate) finally: Logs<'a>,
    /// Up to where the reader was to read
    pub(crate) extents: BTreeMap<&'a Partition, i64>,
    /// What was found of the copies: messages of other topics, with gaps between them, as the
    /// markers of transactions and what was aborted have offsets, too
    pub(crate) copies: Logs<'a>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        Self {
            history,
            finally: logs(history, Role::Reader),
            extents: extents(history).collect(),
            copies: logs(history, Role::CopyReader),
        }
    }

    fn copy_at(&self, partition: &Partition, offset: i64) -> Option<&'a Message> {
        self.copies.get(partition)?.get(&offset).copied()
    }

    fn finally_at(&self, partition: &Partition, offset: i64) -> Option<&'a Message> {
        self.finally.get(partition)?.get(&offset).copied()
    }
}

/// What the readers of a role found.
fn logs(history: &History, role: Role) -> Logs<'_> {
    let mut logs = Logs::new();
    for event in history.of_role(role) {
        match &event.what {
            What::Read(partition, offset, message) => {
                logs.entry(partition).or_default().insert(*offset, message);
            }
            What::Extent(partition, _) => {
                logs.entry(partition).or_default();
            }
            _ => {}
        }
    }
    logs
}

/// The ends of what was sent, as the reader found them.
fn extents(history: &History) -> impl Iterator<Item = (&Partition, i64)> {
    let events = history.of_role(Role::Reader);
    events.filter_map(|event| match &event.what {
        What::Extent(partition, end) => Some((partition, *end)),
        _ => None,
    })
}

/// The topic that is copied, once a copier has told how far it is.
fn source(history: &History) -> Option<&Arc<str>> {
    let mut events = history.of_role(Role::Copier);
    events.find_map(|event| match &event.what {
        What::Copied(partition, _) => Some(&partition.topic),
        _ => None,
    })
}

/// What finds the violations of an invariant.
type Check = fn(&Facts<'_>) -> Vec<Anomaly>;

/// All invariants of a history.
const CHECKS: [Check; 14] = [
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
    unread::check,
    not_copied::check,
    exactly_once::check,
    dirty_read::check,
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
    /// reader; `c ` a copier, `w ` the watcher, `f ` the reader of the copies in the end.
    pub(super) fn history(lines: &[&str]) -> History {
        let mut history = History::default();
        let roles = [
            ('p', Role::Producer),
            ('m', Role::Member),
            ('n', Role::Member),
            ('r', Role::Reader),
            ('c', Role::Copier),
            ('w', Role::Watcher),
            ('f', Role::CopyReader),
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

    /// What a correct cluster gives: two messages, sent, consumed, committed, read; and copied, each
    /// in a transaction, after one that was aborted.
    pub(super) const GOOD: [&str; 29] = [
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
        "c copied 3 t 0 0",
        "c aborted 8 on purpose",
        "c replaced 9 fenced",
        "c copied 11 t 0 1",
        "c copied 12 t 0 2",
        "c end 16 0",
        "w read 13 u 0 3 a 0",
        "w read 14 u 0 5 a 1",
        "w end 16 0",
        "f read 17 u 0 3 a 0",
        "f read 18 u 0 5 a 1",
        "f extent 19 u 0 7",
        "f end 20 0",
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
