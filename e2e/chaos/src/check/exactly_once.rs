//! What is copied in transactions is copied exactly once: in the end the messages of a partition and
//! of its copy are the same, in the same order, whatever happened to copiers and brokers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Anomaly, Facts};
use crate::history::{Message, Partition};

pub(super) const NAME: &str = "exactly-once";

/// How a partition and its copy differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    Lost,
    Twice,
    Reordered,
    Foreign,
}

impl Difference {
    const fn text(self) -> &'static str {
        match self {
            Self::Lost => "not copied",
            Self::Twice => "copied twice",
            Self::Reordered => "copied behind a later one",
            Self::Foreign => "not of the partition that was copied",
        }
    }
}

/// By offset: of what was sent for lost messages, of the copy for all others.
type Messages<'a> = BTreeMap<i64, &'a Message>;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let source = super::source(facts.history);
    let sent = facts.finally.iter();
    let of_source = sent.filter(|(partition, _)| Some(&partition.topic) == source);
    let mut anomalies = Vec::new();
    for (partition, sent) in of_source {
        let mut copies = facts.copies.iter();
        let copy = copies.find(|(copy, _)| copy.number == partition.number);
        let none = Messages::new();
        let (to, copies) = copy.map_or((*partition, &none), |(to, copies)| (*to, copies));
        for (difference, messages) in differences(sent, copies) {
            let place = match difference {
                Difference::Lost => *partition,
                Difference::Twice | Difference::Reordered | Difference::Foreign => to,
            };
            anomalies.extend(anomaly(difference, place, &messages));
        }
    }
    anomalies
}

fn differences<'a>(
    sent: &Messages<'a>,
    copies: &Messages<'a>,
) -> BTreeMap<Difference, Messages<'a>> {
    let mut without_copy: HashMap<_, VecDeque<i64>> = HashMap::new();
    for (offset, message) in sent {
        without_copy.entry(*message).or_default().push_back(*offset);
    }
    let mut found: BTreeMap<_, Messages<'_>> = BTreeMap::new();
    let mut last = -1;
    for (offset, message) in copies {
        let difference = match without_copy.get_mut(message).map(VecDeque::pop_front) {
            None => Difference::Foreign,
            Some(None) => Difference::Twice,
            Some(Some(at)) if at < last => Difference::Reordered,
            Some(Some(at)) => {
                last = at;
                continue;
            }
        };
        found
            .entry(difference)
            .or_default()
            .insert(*offset, message);
    }
    for (message, offsets) in without_copy {
        for offset in offsets {
            let lost = found.entry(Difference::Lost).or_default();
            lost.insert(offset, message);
        }
    }
    found
}

fn anomaly(difference: Difference, place: &Partition, found: &Messages<'_>) -> Option<Anomaly> {
    let (offset, message) = found.first_key_value()?;
    Some(Anomaly {
        invariant: NAME,
        at_us: 0,
        place: Some((place.clone(), Some(*offset))),
        messages: vec![(*message).clone()],
        what: format!(
            "{} messages are {}, the first is {message} at {place}@{offset}",
            found.len(),
            difference.text()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{find, history};
    use super::{Facts, NAME, check};

    #[test]
    fn a_message_that_is_not_copied_is_lost() {
        let found = find(NAME, "f read 17 u 0 3 a 0", &[]);
        assert_eq!(
            found[0].what,
            "1 messages are not copied, the first is a#0 at t-0@0"
        );
    }

    #[test]
    fn a_message_of_a_transaction_that_was_done_again_is_there_twice() {
        let aborted = ["f read 17 u 0 0 a 0", "f read 17 u 0 3 a 0"];
        let found = find(NAME, "f read 17 u 0 3 a 0", &aborted);
        assert_eq!(
            found[0].what,
            "1 messages are copied twice, the first is a#0 at u-0@3"
        );
    }

    #[test]
    fn copies_have_the_order_of_what_was_sent() {
        let behind = ["f read 17 u 0 6 a 0"];
        let found = find(NAME, "f read 17 u 0 3 a 0", &behind);
        assert_eq!(
            found[0].what,
            "1 messages are copied behind a later one, the first is a#0 at u-0@6"
        );
    }

    #[test]
    fn a_copy_of_nothing_is_found_and_what_it_replaces_is_lost() {
        let found = find(NAME, "f read 17 u 0 3 a 0", &["f read 17 u 0 3 b 9"]);
        let texts: Vec<_> = found.iter().map(|anomaly| &anomaly.what).collect();
        assert!(texts[0].contains("a#0 at t-0@0"), "{texts:?}");
        assert!(texts[1].contains("b#9 at u-0@3"), "{texts:?}");
    }

    #[test]
    fn what_the_source_has_twice_is_copied_twice() {
        let sent = ["r read 13 t 0 1 a 1", "r read 13 t 0 2 a 1"];
        assert_eq!(find(NAME, "r read 13 t 0 1 a 1", &sent).len(), 1);
        let both = history(&[
            "c copied 1 t 0 2",
            "r read 2 t 0 0 a 0",
            "r read 2 t 0 1 a 0",
            "f read 3 u 0 0 a 0",
            "f read 3 u 0 1 a 0",
        ]);
        assert_eq!(check(&Facts::new(&both)), []);
    }
}
