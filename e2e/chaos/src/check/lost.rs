//! An acknowledged message is at its offset when everything has healed.

use std::collections::HashSet;

use super::{Anomaly, Facts};
use crate::history::What;

pub(super) const NAME: &str = "lost";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let messages = |partition| facts.finally.get(partition).into_iter().flatten();
    let present: HashSet<_> = facts
        .finally
        .keys()
        .flat_map(|partition| messages(*partition).map(move |(_, message)| (*partition, *message)))
        .collect();
    let mut anomalies = Vec::new();
    for event in &facts.history.events {
        let (partition, offset, message) = match &event.what {
            What::Acknowledged(partition, offset, message) => (partition, Some(*offset), message),
            What::AcknowledgedBefore(partition, message) => (partition, None, message),
            _ => continue,
        };
        let is_there = match offset {
            Some(offset) => facts.finally_at(partition, offset) == Some(message),
            None => present.contains(&(partition, message)),
        };
        if is_there {
            continue;
        }
        let found = offset.and_then(|offset| facts.finally_at(partition, offset));
        let instead = match found {
            Some(other) => format!("there is {other}"),
            None => format!("the log ends at {:?}", facts.extents.get(partition)),
        };
        anomalies.push(Anomaly {
            invariant: NAME,
            at_us: event.at_us,
            place: Some((partition.clone(), offset)),
            messages: vec![message.clone()],
            what: format!("{message} was acknowledged at {partition}@{offset:?}, but {instead}"),
        });
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn an_acknowledged_message_that_is_not_there_is_lost() {
        assert_eq!(find(NAME, "r read 13 t 0 1 a 1", &[]).len(), 1);
        let replaced = find(NAME, "r read 13 t 0 1 a 1", &["r read 13 t 0 1 b 1"]);
        assert!(replaced[0].what.ends_with("there is b#1"), "{replaced:?}");
    }

    #[test]
    fn a_message_that_the_broker_had_already_is_somewhere() {
        let before = ["p ok 4 t 0 None a 1"];
        assert_eq!(find(NAME, "p ok 4 t 0 1 a 1", &before), []);
        let lost = ["p ok 2 t 0 None b 0"];
        assert_eq!(find(NAME, "p ok 2 t 0 0 a 0", &lost).len(), 1);
    }

    #[test]
    fn a_message_that_was_given_up_may_be_missing() {
        let given_up = ["p info 4 t 0 a 1 timed out"];
        assert_eq!(find(NAME, "p ok 4 t 0 1 a 1", &given_up), []);
    }
}
