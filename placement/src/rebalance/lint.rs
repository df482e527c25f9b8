//! Finds what is uneven, without the planner: every partition and broker is looked at, nothing is
//! remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Partition, bytes_tolerance};
use crate::Broker;

/// Something that a rebalance would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The partition at this index is on `racks` of `possible` racks.
    Racks {
        partition: usize,
        racks: usize,
        possible: usize,
    },
    /// A replica of the partition could go to a broker with at least two fewer.
    Replicas {
        partition: usize,
        from: i32,
        to: i32,
    },
    /// The fullest broker of a rack has more than the tolerance over the emptiest, and an exchange
    /// of two replicas would lower that.
    Bytes { from: i32, to: i32 },
    /// Another replica of the partition has at least two leads fewer than its preferred leader.
    Leaders {
        partition: usize,
        from: i32,
        to: i32,
    },
}

impl Violation {
    /// Index of the partition, where it is about one.
    #[must_use]
    pub const fn partition(&self) -> Option<usize> {
        match self {
            Self::Racks { partition, .. }
            | Self::Replicas { partition, .. }
            | Self::Leaders { partition, .. } => Some(*partition),
            Self::Bytes { .. } => None,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Racks {
                racks, possible, ..
            } => write!(f, "it is on {racks} racks, and could be on {possible}"),
            Self::Replicas { from, to, .. } => {
                write!(f, "broker {to} has fewer replicas than broker {from}")
            }
            Self::Bytes { from, to } => {
                write!(f, "broker {to} has far fewer bytes than broker {from}")
            }
            Self::Leaders { from, to, .. } => {
                write!(f, "broker {to} is to lead less than broker {from}")
            }
        }
    }
}

/// Everything that is uneven and need not be: of replicas and leaders one example for each broker that
/// has too many. Pinned partitions count, and are not told of.
#[must_use]
pub fn lint(brokers: &[Broker], partitions: &[Partition]) -> Vec<Violation> {
    let lint = Lint {
        racks: brokers.iter().map(|b| (b.id, b.rack.as_deref())).collect(),
        available: available(brokers).map(|broker| broker.id).collect(),
        partitions,
    };
    let mut violations = lint.racks();
    violations.extend(lint.replicas());
    violations.extend(lint.bytes());
    violations.extend(lint.leaders());
    violations
}

fn available(brokers: &[Broker]) -> impl Iterator<Item = &Broker> {
    brokers.iter().filter(|broker| broker.available)
}

struct Lint<'a> {
    /// By broker.
    racks: BTreeMap<i32, Option<&'a str>>,
    available: BTreeSet<i32>,
    partitions: &'a [Partition],
}

impl<'a> Lint<'a> {
    fn rack(&self, broker: i32) -> Option<Option<&'a str>> {
        self.racks.get(&broker).copied()
    }

    fn movable(&self) -> impl Iterator<Item = (usize, &Partition)> {
        let all = self.partitions.iter().enumerate();
        all.filter(|(_, partition)| !partition.pinned)
    }

    /// Of each available broker.
    fn counts<'p, T: Iterator<Item = (i32, u64)> + 'p>(
        &self,
        of: impl Fn(&'p Partition) -> T,
    ) -> BTreeMap<i32, u64>
    where
        'a: 'p,
    {
        let mut counts: BTreeMap<i32, u64> = self.available.iter().map(|id| (*id, 0)).collect();
        for (broker, amount) in self.partitions.iter().flat_map(of) {
            if let Some(count) = counts.get_mut(&broker) {
                *count += amount;
            }
        }
        counts
    }

    fn racks(&self) -> Vec<Violation> {
        let all = self.available.iter();
        let all: BTreeSet<_> = all.map(|broker| self.rack(*broker)).collect();
        let crowded = self.movable().filter_map(|(index, partition)| {
            let replicas = || partition.replicas.iter().copied();
            let used: BTreeSet<_> = replicas().map(|broker| self.rack(broker)).collect();
            let possible = all.union(&used).count().min(partition.replicas.len());
            let shares = |broker: i32| {
                let mates = replicas().filter(|mate| self.rack(*mate) == self.rack(broker));
                mates.count() > 1 && self.available.contains(&broker)
            };
            let is_crowded = used.len() < possible && replicas().any(shares);
            is_crowded.then_some(Violation::Racks {
                partition: index,
                racks: used.len(),
                possible,
            })
        });
        crowded.collect()
    }

    fn replicas(&self) -> Vec<Violation> {
        let counts = self.counts(|partition| partition.replicas.iter().map(|id| (*id, 1)));
        let least = counts.values().min().copied().unwrap_or(0);
        let mut takers: BTreeMap<_, Vec<(u64, i32)>> = BTreeMap::new();
        for (id, count) in &counts {
            let of_rack = takers.entry(self.rack(*id)).or_default();
            of_rack.push((*count, *id));
        }
        let mut found: BTreeMap<i32, Violation> = BTreeMap::new();
        for (index, partition) in self.movable() {
            for from in partition.replicas.iter().copied() {
                let count = counts.get(&from).copied().unwrap_or(0);
                if count < least + 2 || found.contains_key(&from) {
                    continue;
                }
                let racks = takers.iter();
                let open = racks.filter(|(rack, _)| self.is_open(partition, from, **rack));
                let mut takers = open.flat_map(|(_, takers)| takers);
                let taker = takers
                    .find(|(taken, to)| taken + 2 <= count && !partition.replicas.contains(to));
                if let Some((_, to)) = taker {
                    let (partition, to) = (index, *to);
                    found.insert(
                        from,
                        Violation::Replicas {
                            partition,
                            from,
                            to,
                        },
                    );
                }
            }
        }
        found.into_values().collect()
    }

    /// Whether the rack that takes would not have more of the partition than the one that gives had.
    fn is_open(&self, partition: &Partition, from: i32, to: Option<Option<&str>>) -> bool {
        let in_rack = |rack| {
            let replicas = partition.replicas.iter();
            replicas.filter(|id| self.rack(**id) == rack).count()
        };
        let rack = self.rack(from);
        rack == to || in_rack(to) < in_rack(rack)
    }

    fn bytes(&self) -> Vec<Violation> {
        let bytes = self.counts(|partition| {
            let replicas = partition.replicas.iter();
            replicas.map(|id| (*id, partition.bytes))
        });
        let names: BTreeSet<_> = self.available.iter().map(|id| self.rack(*id)).collect();
        let uneven = names.into_iter().filter_map(|rack| {
            let brokers = || bytes.iter().filter(|(id, _)| self.rack(**id) == rack);
            let (from, most) = brokers().max_by_key(|(id, bytes)| (**bytes, **id))?;
            let (to, least) = brokers().min_by_key(|(id, bytes)| (**bytes, **id))?;
            let total = brokers().map(|(_, bytes)| bytes).sum();
            let gap = most - least;
            let is_uneven = gap > bytes_tolerance(total, brokers().count());
            let (from, to) = (*from, *to);
            (is_uneven && self.has_exchange(from, to, gap)).then_some(Violation::Bytes { from, to })
        });
        uneven.collect()
    }

    /// Whether an exchange closes an eighth of the gap.
    fn has_exchange(&self, from: i32, to: i32, gap: u64) -> bool {
        let sizes = |has: i32, lacks: i32| {
            let only = self.movable().filter(move |(_, partition)| {
                partition.replicas.contains(&has) && !partition.replicas.contains(&lacks)
            });
            only.map(|(_, partition)| partition.bytes)
        };
        sizes(from, to).any(|out| {
            sizes(to, from).any(|back| {
                let less = out.saturating_sub(back);
                less.min(gap.saturating_sub(less)) >= gap / 8
            })
        })
    }

    fn leaders(&self) -> Vec<Violation> {
        let counts =
            self.counts(|partition| partition.replicas.first().map(|id| (*id, 1)).into_iter());
        let mut found: BTreeMap<i32, Violation> = BTreeMap::new();
        for (index, partition) in self.movable() {
            let Some(from) = partition.replicas.first() else {
                continue;
            };
            let Some(led) = counts.get(from) else {
                continue;
            };
            let leads_less = |id: &&i32| counts.get(*id).is_some_and(|count| count + 2 <= *led);
            if let Some(to) = partition.replicas.iter().find(leads_less) {
                let (partition, from, to) = (index, *from, *to);
                found.entry(from).or_insert(Violation::Leaders {
                    partition,
                    from,
                    to,
                });
            }
        }
        found.into_values().collect()
    }
}
