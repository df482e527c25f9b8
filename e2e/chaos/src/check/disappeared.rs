//! What a consumer has got is in the log for ever, acknowledged or not.

use super::{Anomaly, Facts};
use crate::history::{Role, What};

pub(super) const NAME: &str = "disappeared";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for event in facts.history.of_role(Role::Member) {
        let What::Read(partition, offset, message) = &event.what else {
            continue;
        };
        if facts.finally_at(partition, *offset).is_none() {
            anomalies.push(Anomaly {
                invariant: NAME,
                at_us: event.at_us,
                place: Some((partition.clone(), Some(*offset))),
                messages: vec![message.clone()],
                what: format!("{message} was consumed at {partition}@{offset}, which is gone"),
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
    fn a_consumed_message_must_stay() {
        assert_eq!(find(NAME, "r read 13 t 0 1 a 1", &[]).len(), 1);
    }
}
