//! A message of an idempotent producer is in the log at most once.

use std::collections::HashMap;

use super::{Anomaly, Facts};

pub(super) const NAME: &str = "duplicate";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut first = HashMap::new();
    for (partition, messages) in &facts.finally {
        for (offset, message) in messages {
            let Some((other, at)) = first.insert(*message, (*partition, *offset)) else {
                continue;
            };
            anomalies.push(Anomaly {
                invariant: NAME,
                at_us: 0,
                place: Some(((*partition).clone(), Some(*offset))),
                messages: vec![(*message).clone()],
                what: format!("{message} is at {other}@{at} and at {partition}@{offset}"),
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
    fn a_message_at_two_offsets_is_a_duplicate() {
        let twice = ["r read 13 t 0 1 a 1", "r read 13 t 0 2 a 1"];
        assert_eq!(find(NAME, "r read 13 t 0 1 a 1", &twice).len(), 1);
    }
}
