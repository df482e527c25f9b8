//! Which brokers vote in the metadata quorum: over as many zones as there are, and those that vote
//! already before others. The founding ones are decided once, before the first broker starts: a quorum
//! whose founding members differ from broker to broker could elect two leaders.

/// Up to `count` of the brokers (id, zone), of which `current` vote already. Ascending.
pub(crate) fn choose(brokers: &[(i32, Option<&str>)], current: &[i32], count: usize) -> Vec<i32> {
    let mut chosen: Vec<(i32, Option<&str>)> = Vec::new();
    while chosen.len() < count {
        let in_zone = |zone| chosen.iter().filter(|(_, of)| *of == zone).count();
        let left = brokers.iter().filter(|broker| !chosen.contains(broker));
        let next = left.min_by_key(|(id, zone)| (in_zone(*zone), !current.contains(id), *id));
        let Some(next) = next else {
            break;
        };
        chosen.push(*next);
    }
    let mut voters: Vec<_> = chosen.into_iter().map(|(id, _)| id).collect();
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
            assert_eq!(choose(brokers, &[], *count), *expected, "{brokers:?}");
        }
    }

    #[test]
    fn those_that_vote_stay_unless_a_zone_is_gained() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        let one_zone = [(0, None), (1, None), (2, None), (3, None)];
        assert_eq!(choose(&one_zone, &[1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(choose(&one_zone[..3], &[1, 2, 3], 3), [0, 1, 2]);
        assert_eq!(choose(&one_zone, &[1, 2, 3], 1), [1]);
        let zones = [(0, a), (1, b), (2, b), (3, c)];
        assert_eq!(choose(&zones, &[0, 1, 2], 3), [0, 1, 3]);
        assert_eq!(choose(&zones[..3], &[0, 1, 2], 3), [0, 1, 2]);
    }
}
