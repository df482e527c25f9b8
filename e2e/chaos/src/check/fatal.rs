//! A producer can always go on: what makes an idempotent producer give up (a sequence number out of
//! order, a producer id that is unknown) means that the broker's memory of it is wrong.

use super::{Anomaly, Facts};
use crate::history::What;

pub(super) const NAME: &str = "fatal";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let events = facts.history.events.iter();
    let fatal = events.filter(|event| event.what == What::Fatal);
    let anomaly = |event: &crate::history::Event| Anomaly {
        invariant: NAME,
        at_us: event.at_us,
        place: None,
        messages: Vec::new(),
        what: event.line.clone(),
    };
    fatal.map(anomaly).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn a_producer_that_gives_up_is_found() {
        let fatal = ["p fatal 16 a out of order sequence", "p end 16 0"];
        assert_eq!(find(NAME, "p end 16 0", &fatal).len(), 1);
    }
}
