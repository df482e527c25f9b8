//! A place in a log has one message: the same for everyone who reads it, and for its producer.

use std::collections::HashMap;

use super::{Anomaly, Facts};
use crate::history::What;

pub(super) const NAME: &str = "two-values";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut values = HashMap::new();
    for event in &facts.history.events {
        let (What::Read(partition, offset, message)
        | What::Acknowledged(partition, offset, message)) = &event.what
        else {
            continue;
        };
        let known = *values.entry((partition, *offset)).or_insert(message);
        if known != message {
            anomalies.push(Anomaly {
                invariant: NAME,
                at_us: event.at_us,
                place: Some((partition.clone(), Some(*offset))),
                messages: vec![known.clone(), message.clone()],
                what: format!("{partition}@{offset} was {known}, and is {message}"),
            });
        }
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn two_readers_of_a_place_that_differ_are_found() {
        let other = ["m read 6 t 0 0 b 0"];
        assert!(!find(NAME, "m read 6 t 0 0 a 0", &other).is_empty());
    }

    #[test]
    fn an_acknowledgement_counts_as_a_value() {
        let elsewhere = ["p ok 4 t 0 0 a 1"];
        assert!(!find(NAME, "p ok 4 t 0 1 a 1", &elsewhere).is_empty());
    }
}
