//! A consumer gets every offset, in order: from the committed one on which its assignment begins,
//! without gap or repetition until it is revoked. Logs here have no control batches and are not
//! compacted, so offsets are dense; not those of copies, which are written in transactions.

use std::collections::HashMap;

use super::{Anomaly, Facts};
use crate::history::{Role, What};

pub(super) const NAME: &str = "skipped";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    // By client and partition
    let mut expected = HashMap::new();
    for event in &facts.history.events {
        let role = facts.history.clients[event.client].role;
        if matches!(role, Role::Watcher | Role::CopyReader) {
            continue;
        }
        match &event.what {
            What::Assigned(partition, offset) => {
                expected.insert((event.client, partition), *offset);
            }
            What::Begins | What::Revoked | What::Reset => {
                expected.retain(|(client, _), _| *client != event.client);
            }
            What::Read(partition, offset, message) => {
                let start = if role == Role::Reader { 0 } else { *offset };
                let next = expected.entry((event.client, partition)).or_insert(start);
                if next != offset {
                    anomalies.push(Anomaly {
                        invariant: NAME,
                        at_us: event.at_us,
                        place: Some((partition.clone(), Some(*offset))),
                        messages: vec![message.clone()],
                        what: format!(
                            "{} got {partition}@{offset} where {next} comes next",
                            facts.history.clients[event.client].name
                        ),
                    });
                }
                *next = offset + 1;
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
    fn gaps_and_repetitions_are_found() {
        assert_eq!(find(NAME, "r read 12 t 0 0 a 0", &[]).len(), 1);
        let again = ["n read 10 t 0 1 a 1", "n read 10 t 0 1 a 1"];
        assert_eq!(find(NAME, "n read 10 t 0 1 a 1", &again).len(), 1);
    }

    #[test]
    fn an_assignment_begins_at_the_committed_offset() {
        let begins = ["n assigned 9 t 0 0"];
        assert_eq!(find(NAME, "n assigned 9 t 0 1", &begins).len(), 1);
        assert_eq!(find(NAME, "n assigned 9 t 0 1", &["n begins 9"]), []);
    }
}
