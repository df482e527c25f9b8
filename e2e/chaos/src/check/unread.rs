//! After everything has healed, whole topics can be read. Of copies, a transaction that does not end
//! keeps everything behind it from readers.

use super::{Anomaly, Facts};
use crate::history::{Event, Role, What};

pub(super) const NAME: &str = "unread";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let anomaly = |event: &Event| {
        let left = match event.what {
            What::End(left) if left > 0 => left,
            _ => return None,
        };
        let reader = &facts.history.clients[event.client].name;
        Some(Anomaly {
            invariant: NAME,
            at_us: event.at_us,
            place: None,
            messages: Vec::new(),
            what: format!("{reader} did not get to the ends of {left} partitions"),
        })
    };
    let readers = [Role::Reader, Role::CopyReader].into_iter();
    let events = readers.flat_map(|role| facts.history.of_role(role));
    events.filter_map(anomaly).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn a_reader_that_is_kept_from_the_end_is_found() {
        for (line, kept) in [("r end 15 0", "r end 15 1"), ("f end 20 0", "f end 20 1")] {
            assert_eq!(find(NAME, line, &[kept]).len(), 1, "{kept}");
        }
    }

    #[test]
    fn a_producer_may_leave_messages_without_an_answer() {
        assert_eq!(find(NAME, "p end 16 0", &["p end 16 3"]), []);
    }
}
