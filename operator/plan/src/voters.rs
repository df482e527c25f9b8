//! Which brokers vote in the metadata quorum: over as many zones as there are, and those that vote
//! already before others. The founding ones are decided once, before the first broker starts: a quorum
//! whose founding members differ from broker to broker could elect two leaders.

/// A broker that may vote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: i32,
    pub(crate) zone: Option<&'a str>,
    /// Whether it votes already.
    pub(crate) votes: bool,
    /// Whether it serves. One that votes is preferred to others even if it does not.
    pub(crate) serves: bool,
}

/// Up to `count` of the candidates. Ascending.
pub(crate) fn choose(candidates: &[Candidate<'_>], count: usize) -> Vec<i32> {
    let mut chosen: Vec<&Candidate<'_>> = Vec::new();
    while chosen.len() < count {
        let in_zone = |zone| chosen.iter().filter(|other| other.zone == zone).count();
        let is_left = |candidate: &&Candidate<'_>| !chosen.contains(candidate);
        let next = candidates.iter().filter(is_left).min_by_key(|candidate| {
            let (votes, serves) = (candidate.votes, candidate.serves);
            (in_zone(candidate.zone), !votes, !serves, candidate.id)
        });
        let Some(next) = next else {
            break;
        };
        chosen.push(next);
    }
    let mut voters: Vec<_> = chosen.into_iter().map(|candidate| candidate.id).collect();
    voters.sort_unstable();
    voters
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of brokers that serve, of which `current` vote.
    fn chosen(brokers: &[(i32, Option<&str>)], current: &[i32], count: usize) -> Vec<i32> {
        let candidates = brokers.iter().map(|&(id, zone)| Candidate {
            id,
            zone,
            votes: current.contains(&id),
            serves: true,
        });
        choose(&candidates.collect::<Vec<_>>(), count)
    }

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
            assert_eq!(chosen(brokers, &[], *count), *expected, "{brokers:?}");
        }
    }

    #[test]
    fn those_that_vote_stay_unless_a_zone_is_gained() {
        let (a, b, c) = (Some("a"), Some("b"), Some("c"));
        let one_zone = [(0, None), (1, None), (2, None), (3, None)];
        assert_eq!(chosen(&one_zone, &[1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(chosen(&one_zone[..3], &[1, 2, 3], 3), [0, 1, 2]);
        assert_eq!(chosen(&one_zone, &[1, 2, 3], 1), [1]);
        let zones = [(0, a), (1, b), (2, b), (3, c)];
        assert_eq!(chosen(&zones, &[0, 1, 2], 3), [0, 1, 3]);
        assert_eq!(chosen(&zones[..3], &[0, 1, 2], 3), [0, 1, 2]);
    }

    #[test]
    fn of_those_that_vote_the_ones_that_serve_stay() {
        let candidate = |id| Candidate {
            id,
            zone: None,
            votes: id < 5,
            serves: id > 1,
        };
        let candidates: Vec<_> = (0..6).map(candidate).collect();
        assert_eq!(choose(&candidates, 3), [2, 3, 4]);
        assert_eq!(choose(&candidates, 5), [0, 1, 2, 3, 4], "one may come back");
    }
}
