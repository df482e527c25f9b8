//! Which brokers found the metadata quorum. Decided once, before the first broker starts: a quorum
//! whose founding members differ from broker to broker could elect two leaders.

use std::collections::BTreeMap;

/// Up to `count` of the brokers (id, zone), over as many zones as there are, lowest ids first.
/// Ascending.
pub(crate) fn choose(brokers: &[(i32, Option<&str>)], count: usize) -> Vec<i32> {
    let mut candidates: BTreeMap<Option<&str>, Vec<i32>> = BTreeMap::new();
    for &(id, zone) in brokers {
        candidates.entry(zone).or_default().push(id);
    }
    for ids in candidates.values_mut() {
        ids.sort_unstable();
    }
    let rounds = candidates.values().map(Vec::len).max().unwrap_or(0);
    let mut voters: Vec<i32> = (0..rounds)
        .flat_map(|round| {
            candidates
                .values()
                .filter_map(move |ids| ids.get(round).copied())
        })
        .take(count)
        .collect();
    voters.sort_unstable();
    voters
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn voters_are_spread_over_zones() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        type Case<'a> = (&'a [(i32, Option<&'a str>)], usize, &'a [i32]);
        let cases: &[Case<'_>] = &[
            (&[(0, None), (1, None), (2, None)], 3, &[0, 1, 2]),
            (&[(0, None), (1, None), (2, None)], 1, &[0]),
            (
                &[(0, a), (1, a), (2, b), (3, b), (4, c), (5, c)],
                3,
                &[0, 2, 4],
            ),
            (
                &[(0, a), (1, a), (2, b), (3, b), (4, c), (5, c)],
                5,
                &[0, 1, 2, 3, 4],
            ),
            (&[(0, a), (1, a), (2, a), (3, b)], 3, &[0, 1, 3]),
            (&[(5, b), (4, a)], 3, &[4, 5]),
            (&[], 3, &[]),
        ];
        for (brokers, count, expected) in cases {
            assert_eq!(choose(brokers, *count), *expected, "{brokers:?}");
        }
    }
}
