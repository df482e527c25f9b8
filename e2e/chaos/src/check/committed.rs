//! A group's committed offset never falls: whoever asks gets at least what was committed before it
//! asked. Members commit rising offsets, so a lower one is a lost commit or one of a member that
//! the group had left behind.

use std::collections::HashMap;

use super::{Anomaly, Facts};
use crate::history::What;

pub(super) const NAME: &str = "uncommitted";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut events: Vec<_> = facts.history.events.iter().collect();
    events.sort_by_key(|event| event.at_us);
    let mut anomalies = Vec::new();
    let mut highest = HashMap::new();
    for event in events {
        match &event.what {
            What::Committed(partition, offset) => {
                let highest = highest.entry(partition).or_insert(*offset);
                *highest = (*highest).max(*offset);
            }
            What::Assigned(partition, offset) => {
                let Some(committed) = highest.get(partition).filter(|h| *h > offset) else {
                    continue;
                };
                anomalies.push(Anomaly {
                    invariant: NAME,
                    at_us: event.at_us,
                    place: Some((partition.clone(), Some(*offset))),
                    messages: Vec::new(),
                    what: format!("{partition} was committed at {committed}, and is at {offset}"),
                });
            }
            _ => {}
        }
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn a_committed_offset_must_not_fall() {
        let back = ["n assigned 9 t 0 0"];
        assert_eq!(find(NAME, "n assigned 9 t 0 1", &back).len(), 1);
    }

    #[test]
    fn a_commit_without_an_answer_may_not_have_happened() {
        let unanswered = ["m uncommitted 7 timed out"];
        let lines = find(NAME, "m commit 7 t 0 1", &unanswered);
        assert_eq!(lines, []);
    }
}
