//! A reader of committed messages gets nothing that is taken back: what it got at an offset is there
//! in the end. What it got of a transaction that was aborted is not.

use super::{Anomaly, Facts};
use crate::history::{Message, Role, What};

pub(super) const NAME: &str = "dirty-read";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for event in facts.history.of_role(Role::Watcher) {
        let What::Read(partition, offset, message) = &event.what else {
            continue;
        };
        let finally = facts.copy_at(partition, *offset);
        if finally == Some(message) {
            continue;
        }
        let instead = finally.map_or_else(|| "nothing".to_owned(), Message::to_string);
        anomalies.push(Anomaly {
            invariant: NAME,
            at_us: event.at_us,
            place: Some((partition.clone(), Some(*offset))),
            messages: vec![message.clone()],
            what: format!(
                "{message} was seen at {partition}@{offset}, where {instead} is committed"
            ),
        });
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn what_was_seen_of_an_aborted_transaction_is_found() {
        let aborted = ["w read 7 u 0 0 a 0", "w read 13 u 0 3 a 0"];
        let found = find(NAME, "w read 13 u 0 3 a 0", &aborted);
        assert_eq!(
            found[0].what,
            "a#0 was seen at u-0@0, where nothing is committed"
        );
    }

    #[test]
    fn what_was_seen_and_replaced_is_found() {
        let other = ["w read 13 u 0 3 b 7"];
        let found = find(NAME, "w read 13 u 0 3 a 0", &other);
        assert!(
            found[0].what.ends_with("where a#0 is committed"),
            "{found:?}"
        );
    }

    #[test]
    fn a_watcher_need_not_see_everything() {
        assert_eq!(find(NAME, "w read 14 u 0 5 a 1", &[]), []);
    }
}
