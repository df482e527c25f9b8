//! After everything has healed, the group gets everything that is in the log.

use std::collections::{HashMap, HashSet};

use super::{Anomaly, Facts};
use crate::history::{Role, What};

pub(super) const NAME: &str = "unseen";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Anomaly> {
    let mut seen: HashMap<_, HashSet<i64>> = HashMap::new();
    for event in facts.history.of_role(Role::Member) {
        if let What::Read(partition, offset, _) = &event.what {
            seen.entry(partition).or_default().insert(*offset);
        }
    }
    let none = HashSet::new();
    let mut anomalies = Vec::new();
    for (partition, end) in &facts.extents {
        let seen = seen.get(partition).unwrap_or(&none);
        let missing = |offset: &i64| !seen.contains(offset);
        let Some(first) = (0..*end).find(missing) else {
            continue;
        };
        let count = (0..*end).filter(missing).count();
        anomalies.push(Anomaly {
            invariant: NAME,
            at_us: 0,
            place: Some(((*partition).clone(), Some(first))),
            messages: facts
                .finally_at(partition, first)
                .into_iter()
                .cloned()
                .collect(),
            what: format!("the group never got {count} messages of {partition}, from {first} on"),
        });
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::super::tests::find;
    use super::NAME;

    #[test]
    fn a_message_that_no_member_got_is_unseen() {
        let found = find(NAME, "n read 10 t 0 1 a 1", &[]);
        assert!(
            found[0].what.contains("1 messages of t-0, from 1"),
            "{found:?}"
        );
    }
}
