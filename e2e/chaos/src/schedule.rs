//! Which nemesis comes when: every one once in each cycle, in random order, so that an hour reaches
//! each of them as often as the others.

use klamm_e2e::random::Random;

use crate::nemesis::{Nemesis, Promise};

/// Careful nemeses in a round; a round is what a history is about.
const ROUND_NEMESES: usize = 8;

/// Puts items into random order.
pub(crate) fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        let other = random.within(0..last as u64 + 1);
        items.swap(last, usize::try_from(other).expect("an index"));
    }
}

/// Nemeses of one promise, one after the other.
pub(crate) struct Round {
    pub(crate) promise: Promise,
    pub(crate) nemeses: Vec<&'static Nemesis>,
}

/// One cycle: each of the nemeses once. Those after which only flushed topics are complete come in
/// a round of their own, first, so that a short run has them too.
pub(crate) fn cycle(nemeses: &[&'static Nemesis], random: &mut Random) -> Vec<Round> {
    let mut shuffled = nemeses.to_vec();
    shuffle(&mut shuffled, random);
    let (everything, flushed): (Vec<_>, Vec<_>) = shuffled
        .into_iter()
        .partition(|nemesis| nemesis.promise == Promise::Everything);
    let flushed = flushed.chunks(ROUND_NEMESES).map(|nemeses| Round {
        promise: Promise::FlushedTopics,
        nemeses: nemeses.to_vec(),
    });
    let everything = everything.chunks(ROUND_NEMESES).map(|nemeses| Round {
        promise: Promise::Everything,
        nemeses: nemeses.to_vec(),
    });
    flushed.chain(everything).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::ALL;

    #[test]
    fn a_cycle_has_every_nemesis_once_and_follows_from_the_seed() {
        let all: Vec<_> = ALL.iter().collect();
        let names = |seed| -> Vec<_> {
            let rounds = cycle(&all, &mut Random::from_seed(seed));
            let nemeses = rounds.iter().flat_map(|round| {
                assert!(round.nemeses.iter().all(|n| n.promise == round.promise));
                &round.nemeses
            });
            nemeses.map(|nemesis| nemesis.name).collect()
        };
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
        let mut sorted = names(1);
        sorted.sort_unstable();
        let mut expected: Vec<_> = ALL.iter().map(|nemesis| nemesis.name).collect();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
    }
}
