//! Which replica of each partition is the preferred leader.
//!
//! Greedy first, then improved until no chain of swaps takes a leader from a broker to one with at
//! least two fewer. That is optimal (a semi-matching without cost-reducing path), so wherever
//! replicas differ by one at most between brokers, leaders do too.

use std::collections::VecDeque;

use crate::Broker;

/// Moves the preferred leader to the front of each of the `placed` partitions.
pub(crate) fn choose(
    brokers: &[&Broker],
    existing: &[Vec<Option<usize>>],
    placed: &mut [Vec<usize>],
) {
    let mut topic = vec![0u64; brokers.len()];
    let mut total: Vec<u64> = brokers
        .iter()
        .map(|broker| u64::from(broker.leaders))
        .collect();
    for leader in existing.iter().filter_map(|replicas| *replicas.first()?) {
        topic[leader] += 1;
    }
    for replicas in placed.iter_mut() {
        let position = (0..replicas.len())
            .min_by_key(|position| {
                let broker = replicas[*position];
                (topic[broker], total[broker], *position)
            })
            .expect("the replication factor is 1 or more");
        lead(replicas, position);
        topic[replicas[0]] += 1;
        total[replicas[0]] += 1;
    }
    while let Some(chain) = improvement(&topic, placed) {
        for Move {
            partition,
            position,
        } in chain
        {
            topic[placed[partition][0]] -= 1;
            lead(&mut placed[partition], position);
            topic[placed[partition][0]] += 1;
        }
    }
}

/// Makes the replica at `position` the preferred leader; the others keep their order.
fn lead(replicas: &mut [usize], position: usize) {
    replicas[..=position].rotate_right(1);
}

/// The lead of a partition goes to its replica at this position.
#[derive(Clone, Copy)]
struct Move {
    partition: usize,
    position: usize,
}

/// Moves that make one broker lead one partition less, and a broker with at least two fewer lead
/// one more.
fn improvement(topic: &[u64], placed: &[Vec<usize>]) -> Option<Vec<Move>> {
    let mut led: Vec<Vec<usize>> = vec![Vec::new(); topic.len()];
    for (partition, replicas) in placed.iter().enumerate() {
        led[replicas[0]].push(partition);
    }
    let fewest = topic.iter().min()?;
    let mut from: Vec<usize> = (0..topic.len())
        .filter(|broker| topic[*broker] >= fewest + 2)
        .collect();
    from.sort_by_key(|broker| (std::cmp::Reverse(topic[*broker]), *broker));
    from.into_iter()
        .find_map(|broker| chain_from(broker, topic, placed, &led))
}

/// Breadth first over "leads a partition with a replica on".
fn chain_from(
    start: usize,
    topic: &[u64],
    placed: &[Vec<usize>],
    led: &[Vec<usize>],
) -> Option<Vec<Move>> {
    let mut reached_by: Vec<Option<Move>> = vec![None; topic.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(broker) = queue.pop_front() {
        if topic[broker] + 2 <= topic[start] {
            return Some(trace(start, broker, placed, &reached_by));
        }
        for partition in led[broker].iter().copied() {
            for (position, next) in placed[partition].iter().copied().enumerate().skip(1) {
                if next != start && reached_by[next].is_none() {
                    reached_by[next] = Some(Move {
                        partition,
                        position,
                    });
                    queue.push_back(next);
                }
            }
        }
    }
    None
}

fn trace(
    start: usize,
    end: usize,
    placed: &[Vec<usize>],
    reached_by: &[Option<Move>],
) -> Vec<Move> {
    let mut chain = Vec::new();
    let mut broker = end;
    while broker != start {
        let step = reached_by[broker].expect("every broker of a chain was reached");
        chain.push(step);
        broker = placed[step.partition][0];
    }
    chain
}
