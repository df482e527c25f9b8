//! As many preferred leaders on every broker, by changing the order of replicas alone.
//!
//! A chain of partitions hands a lead on from a broker to one with at least two fewer. Without such a
//! chain the leads are as even as the replicas allow (a semi-matching without cost-reducing path).

use std::collections::{BTreeSet, VecDeque};

use super::Reason;
use super::placed::Placed;

/// Hands leads on until no chain evens them out more.
pub(super) fn even_out(placed: &mut Placed<'_>) {
    let mut has_moved = true;
    while has_moved {
        has_moved = false;
        let mut leads = Leads::new(placed);
        let brokers = placed.brokers();
        let mut givers: BTreeSet<(usize, usize)> = brokers.map(|b| (leads.count[b], b)).collect();
        while let Some((_, from)) = givers.pop_last() {
            if leads.stuck[from] {
                continue;
            }
            let Some(to) = leads.hand_on(placed, from) else {
                leads.set_aside(from);
                continue;
            };
            has_moved = true;
            givers.insert((leads.count[from], from));
            if givers.remove(&(leads.count[to] - 1, to)) {
                givers.insert((leads.count[to], to));
            }
        }
    }
}

struct Leads {
    /// By broker.
    count: Vec<usize>,
    /// Partitions whose preferred leader the broker is. Some may be led by others since.
    led: Vec<Vec<usize>>,
    /// Where the search among the broker's partitions begins.
    cursors: Vec<usize>,
    /// In which search each broker was reached last, and how.
    reached_by: Vec<(usize, Link)>,
    searches: usize,
    /// Brokers from which no chain leads on.
    stuck: Vec<bool>,
}

/// The lead of the partition at `index` of those of `from` goes to its replica at `position`.
#[derive(Clone, Copy, Default)]
struct Link {
    from: usize,
    index: usize,
    position: usize,
}

impl Leads {
    fn new(placed: &Placed<'_>) -> Self {
        let brokers = placed.load.len();
        let mut leads = Self {
            count: vec![0; brokers],
            led: vec![Vec::new(); brokers],
            cursors: vec![0; brokers],
            reached_by: vec![(0, Link::default()); brokers],
            searches: 0,
            stuck: vec![false; brokers],
        };
        for partition in placed.all() {
            if let Some(leader) = placed.replicas(partition).first() {
                leads.count[*leader] += 1;
                if !placed.is_pinned(partition) {
                    leads.led[*leader].push(partition);
                }
            }
        }
        leads
    }

    /// Lets `from` lead one partition less, and a broker with at least two fewer one more; returns
    /// that broker.
    fn hand_on(&mut self, placed: &mut Placed<'_>, from: usize) -> Option<usize> {
        let to = self.search(placed, from)?;
        let reason = Reason::Leaders {
            from: placed.id(from),
            to: placed.id(to),
            leaders: (self.count[from], self.count[to]),
        };
        let mut broker = to;
        while broker != from {
            let link = self.reached_by[broker].1;
            let partition = self.led[link.from][link.index];
            placed.lead(partition, link.position, reason);
            self.led[broker].push(partition);
            self.cursors[link.from] = link.index + 1;
            broker = link.from;
        }
        self.count[from] -= 1;
        self.count[to] += 1;
        Some(to)
    }

    /// After a search in vain: whoever was reached and leads no more than `from` cannot do better.
    fn set_aside(&mut self, from: usize) {
        self.stuck[from] = true;
        for (broker, (search, _)) in self.reached_by.iter().enumerate() {
            self.stuck[broker] |= *search == self.searches;
        }
    }

    /// Breadth first over "is the preferred leader of a partition that has a replica on".
    fn search(&mut self, placed: &Placed<'_>, start: usize) -> Option<usize> {
        self.searches += 1;
        let mut queue = VecDeque::from([start]);
        while let Some(broker) = queue.pop_front() {
            let led = self.led[broker].len();
            for index in (0..led).map(|index| (self.cursors[broker] + index) % led) {
                let partition = self.led[broker][index];
                let replicas = placed.replicas(partition);
                if replicas.first() != Some(&broker) {
                    continue;
                }
                for (position, next) in replicas.iter().copied().enumerate().skip(1) {
                    let is_known = next == start || self.reached_by[next].0 == self.searches;
                    if is_known || !placed.is_available(next) {
                        continue;
                    }
                    let link = Link {
                        from: broker,
                        index,
                        position,
                    };
                    self.reached_by[next] = (self.searches, link);
                    if self.count[next] + 2 <= self.count[start] {
                        return Some(next);
                    }
                    queue.push_back(next);
                }
            }
        }
        None
    }
}
