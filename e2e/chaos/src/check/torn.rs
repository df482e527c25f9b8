//! A message comes out as it went in.

use super::{Anomaly, Facts};
use crate::history::What;

pub(super) const NAME: &str = "torn";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let torn = facts.history.events.iter().filter_map(|event| {
        let What::Torn(partition, offset) = &event.what else {
            return None;
        };
        Some(Anomaly {
            invariant: NAME,
            at_us: event.at_us,
            place: Some((partition.clone(), Some(*offset))),
            messages: Vec::new(),
            what: format!(
                "nobody sent what is at {partition}@{offset}: {}",
                event.line
            ),
        })
    });
    torn.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn content_that_nobody_sent_is_torn() {
        let torn = ["m torn 6 t 0 0 00ff"];
        assert_eq!(find(NAME, "m read 6 t 0 0 a 0", &torn).len(), 1);
    }
}
