//! A broker's memory does not grow with what the cluster has done before. What clients did in one
//! round is over in the next, which does the same again, so at the end of every round, when all has
//! healed, brokers need about the same.

use super::Anomaly;

pub(crate) const NAME: &str = "memory-growth";

/// Fewer rounds tell nothing.
const ROUNDS_MIN: usize = 12;
/// How much more the last quarter of the rounds may need than the first one: half as much again,
/// and a little for small numbers.
const GROWTH_PERCENT_MAX: u64 = 50;
const GROWTH_BYTES: u64 = 16 << 20;

/// The memory of the largest broker, in bytes, in the first and in the last quarter of the rounds:
/// medians. `rounds` has the memory of each broker at the end of each round.
pub(crate) fn growth(rounds: &[Vec<u64>]) -> Option<(u64, u64)> {
    if rounds.len() < ROUNDS_MIN {
        return None;
    }
    let largest = rounds.iter().map(|brokers| brokers.iter().copied().max());
    let largest: Vec<_> = largest.map(Option::unwrap_or_default).collect();
    let quarter = largest.len() / 4;
    let first = median(&largest[..quarter]);
    let last = median(&largest[largest.len() - quarter..]);
    Some((first, last))
}

/// Growth beyond the limit.
pub(crate) fn check(rounds: &[Vec<u64>]) -> Option<Anomaly> {
    let (first, last) = growth(rounds)?;
    let limit = first + first * GROWTH_PERCENT_MAX / 100 + GROWTH_BYTES;
    (last > limit).then(|| Anomaly {
        invariant: NAME,
        at_us: 0,
        place: None,
        messages: Vec::new(),
        what: format!(
            "the largest broker had {} MiB in the first rounds and {} MiB in the last ones",
            first >> 20,
            last >> 20
        ),
    })
}

fn median(numbers: &[u64]) -> u64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::check;

    fn rounds(last_mib: u64) -> Vec<Vec<u64>> {
        let mib = |number| vec![10 << 20, number << 20, 20 << 20];
        let first = (0..9).map(|_| mib(60));
        first.chain((0..3).map(|_| mib(last_mib))).collect()
    }

    #[test]
    fn memory_that_grows_over_the_rounds_is_found() {
        assert_eq!(check(&rounds(106)), None);
        let found = check(&rounds(107)).expect("an anomaly");
        assert!(found.what.contains("60 MiB"), "{found:?}");
    }

    #[test]
    fn a_single_large_round_is_no_growth() {
        let mut rounds = rounds(60);
        rounds[11] = vec![400 << 20];
        assert_eq!(check(&rounds), None);
    }
}
