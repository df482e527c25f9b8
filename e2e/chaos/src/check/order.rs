//! In a partition, the messages of a producer lie in the order in which it sent them.

use std::collections::HashMap;

use super::{Anomaly, Facts};
use crate::history::Message;

pub(super) const NAME: &str = "reordered";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for (partition, messages) in &facts.finally {
        let mut last: HashMap<_, &Message> = HashMap::new();
        for (offset, message) in messages {
            let before = last.insert(&message.producer, message);
            let Some(before) = before.filter(|before| before.number >= message.number) else {
                continue;
            };
            anomalies.push(Anomaly {
                invariant: NAME,
                at_us: 0,
                place: Some(((*partition).clone(), Some(*offset))),
                messages: vec![(*message).clone(), before.clone()],
                what: format!("{message} is at {partition}@{offset}, after {before}"),
            });
        }
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::super::tests::{find, history};
    use super::{Facts, NAME, check};

    #[test]
    fn a_message_behind_a_later_one_of_its_producer_is_out_of_order() {
        let swapped = history(&["r read 1 t 0 0 a 1", "r read 2 t 0 1 a 0"]);
        assert_eq!(check(&Facts::new(&swapped)).len(), 1);
    }

    #[test]
    fn producers_are_independent_of_each_other() {
        let other = ["r read 13 t 0 1 b 0"];
        assert_eq!(find(NAME, "r read 13 t 0 1 a 1", &other), []);
    }
}
