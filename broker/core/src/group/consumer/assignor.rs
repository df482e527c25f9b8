//! Who shall have which partition. Pure, and the same for the same input.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use super::record::Partitions;
use crate::{PartitionIndex, TopicId, TopicPartition};

/// How partitions are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Assignor {
    /// Evenly, and each member keeps as much as it can of what it has.
    #[default]
    Uniform,
    /// Of each topic a range, so that members have the same partitions of topics with the same keys.
    Range,
}

impl Assignor {
    /// The assignor of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        })
    }
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub(super) struct Subscriber<'a> {
    /// A static member keeps its place in the order of members by it.
    pub(super) instance_id: Option<&'a str>,
    pub(super) member_id: &'a str,
    pub(super) topics: BTreeSet<TopicId>,
    /// What it shall have so far.
    pub(super) target: &'a Partitions,
}

/// What each member shall have, in the order of `members`. Each partition of `topics` that anybody
/// subscribes to has one owner.
pub(super) fn assign(
    assignor: Assignor,
    members: &[Subscriber<'_>],
    topics: &BTreeMap<TopicId, u32>,
) -> Vec<Partitions> {
    match assignor {
        Assignor::Uniform => Uniform::new(members, topics).assign(),
        Assignor::Range => assign_ranges(members, topics),
    }
}

fn partitions_of(topic: TopicId, count: u32) -> impl Iterator<Item = TopicPartition> {
    (0..count).map(move |index| TopicPartition {
        topic,
        partition: PartitionIndex(index.cast_signed()),
    })
}

fn assign_ranges(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| {
        let member = &members[*at];
        (
            member.instance_id.is_none(),
            member.instance_id,
            member.member_id,
        )
    });
    let mut assigned = alloc::vec![Partitions::new(); members.len()];
    for (topic, count) in topics {
        let subscribes = |at: &usize| members[*at].topics.contains(topic);
        let subscribers: Vec<usize> = order.iter().copied().filter(subscribes).collect();
        let mut partitions = partitions_of(*topic, *count);
        let (each, more) = match subscribers.len() {
            0 => continue,
            len => (*count as usize / len, *count as usize % len),
        };
        for (place, at) in subscribers.into_iter().enumerate() {
            let len = each + usize::from(place < more);
            assigned[at].extend(partitions.by_ref().take(len));
        }
    }
    assigned
}

/// Keeps what there is, gives the rest to who has least, and evens out.
struct Uniform<'a> {
    members: &'a [Subscriber<'a>],
    topics: &'a BTreeMap<TopicId, u32>,
    assigned: Vec<Partitions>,
    owners: BTreeMap<TopicPartition, usize>,
    /// Members by how much they have.
    loads: BTreeSet<(usize, usize)>,
}

impl<'a> Uniform<'a> {
    fn new(members: &'a [Subscriber<'a>], topics: &'a BTreeMap<TopicId, u32>) -> Self {
        Self {
            members,
            topics,
            assigned: alloc::vec![Partitions::new(); members.len()],
            owners: BTreeMap::new(),
            loads: (0..members.len()).map(|at| (0, at)).collect(),
        }
    }

    fn assign(mut self) -> Vec<Partitions> {
        for at in 0..self.members.len() {
            for partition in self.members[at].target {
                if self.is_wanted(at, *partition) && !self.owners.contains_key(partition) {
                    self.give(*partition, at);
                }
            }
        }
        for (topic, count) in self.topics {
            for partition in partitions_of(*topic, *count) {
                if !self.owners.contains_key(&partition)
                    && let Some(at) = self.least_loaded(*topic)
                {
                    self.give(partition, at);
                }
            }
        }
        while self.even_out() {}
        self.assigned
    }

    fn is_wanted(&self, at: usize, partition: TopicPartition) -> bool {
        let count = self.topics.get(&partition.topic);
        let exists = count.is_some_and(|count| partition.partition.0.cast_unsigned() < *count);
        exists && self.members[at].topics.contains(&partition.topic)
    }

    fn least_loaded(&self, topic: TopicId) -> Option<usize> {
        let mut by_load = self.loads.iter().map(|(_, at)| *at);
        by_load.find(|at| self.members[*at].topics.contains(&topic))
    }

    /// Moves partitions from who has at least two more to who has least. Each move makes the sum of the
    /// squares of what members have smaller, so this ends. Whether anything moved.
    fn even_out(&mut self) -> bool {
        let mut moved = false;
        let owners: Vec<_> = self.owners.iter().map(|(p, at)| (*p, *at)).collect();
        for (partition, from) in owners {
            let Some(to) = self.least_loaded(partition.topic) else {
                continue;
            };
            if self.assigned[from].len() > self.assigned[to].len() + 1 {
                self.change_load(from, |assigned| assigned.remove(&partition));
                self.give(partition, to);
                moved = true;
            }
        }
        moved
    }

    fn give(&mut self, partition: TopicPartition, at: usize) {
        self.change_load(at, |assigned| assigned.insert(partition));
        self.owners.insert(partition, at);
    }

    fn change_load(&mut self, at: usize, change: impl FnOnce(&mut Partitions) -> bool) {
        self.loads.remove(&(self.assigned[at].len(), at));
        change(&mut self.assigned[at]);
        self.loads.insert((self.assigned[at].len(), at));
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString as _};

    use proptest::prelude::*;

    use super::*;

    fn topic(id: u8) -> TopicId {
        TopicId([id; 16])
    }

    /// Members with the topics that they subscribe to and what they have.
    fn run(
        assignor: Assignor,
        members: &[(String, BTreeSet<TopicId>, Partitions)],
        topics: &BTreeMap<TopicId, u32>,
    ) -> Vec<Partitions> {
        let subscriber = |(id, topics, target)| Subscriber {
            instance_id: None,
            member_id: id,
            topics: BTreeSet::clone(topics),
            target,
        };
        let members = members.iter().map(|(a, b, c)| subscriber((a, b, c)));
        assign(assignor, &members.collect::<Vec<_>>(), topics)
    }

    #[test]
    fn ranges_are_of_each_topic() {
        let both = BTreeSet::from([topic(1), topic(2)]);
        let members = ["a", "b"].map(|id| (id.to_string(), both.clone(), Partitions::new()));
        let topics = BTreeMap::from([(topic(1), 3), (topic(2), 3)]);
        let assigned = run(Assignor::Range, &members, &topics);
        let parts = |partitions: &Partitions| {
            let pairs = partitions.iter().map(|p| (p.topic.0[0], p.partition.0));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(parts(&assigned[0]), [(1, 0), (1, 1), (2, 0), (2, 1)]);
        assert_eq!(parts(&assigned[1]), [(1, 2), (2, 2)]);
    }

    #[test]
    fn a_newcomer_takes_no_more_than_its_share() {
        let all = BTreeSet::from([topic(1)]);
        let topics = BTreeMap::from([(topic(1), 10)]);
        let mut members: Vec<_> = (0..4)
            .map(|id: u8| (id.to_string(), all.clone(), Partitions::new()))
            .collect();
        let before = run(Assignor::Uniform, &members, &topics);
        for (member, target) in members.iter_mut().zip(&before) {
            member.2.clone_from(target);
        }
        members.push(("new".to_string(), all, Partitions::new()));
        let after = run(Assignor::Uniform, &members, &topics);
        let kept: usize = before
            .iter()
            .zip(&after)
            .map(|(before, after)| before.intersection(after).count())
            .sum();
        assert_eq!((kept, after[4].len()), (8, 2));
    }

    proptest! {
        #[test]
        fn each_partition_has_one_owner_that_wants_it_and_loads_are_even(
            counts in prop::collection::vec(0..9u32, 1..5),
            wants in prop::collection::vec(prop::collection::btree_set(0..5u8, 0..4), 1..7),
            kept in prop::collection::vec((0..7usize, 0..5u8, 0..12i32), 0..20),
            range in any::<bool>(),
        ) {
            let topics: BTreeMap<_, _> =
                counts.iter().enumerate().map(|(i, count)| (topic(i as u8), *count)).collect();
            let mut members: Vec<_> = wants
                .iter()
                .enumerate()
                .map(|(i, wants)| {
                    (i.to_string(), wants.iter().copied().map(topic).collect(), Partitions::new())
                })
                .collect();
            for (at, of, partition) in kept {
                let at = at % members.len();
                let partition = PartitionIndex(partition);
                members[at].2.insert(TopicPartition { topic: topic(of), partition });
            }
            let assignor = if range { Assignor::Range } else { Assignor::Uniform };
            let assigned = run(assignor, &members, &topics);
            for (of, count) in &topics {
                let is_wanted = members.iter().any(|member| member.1.contains(of));
                for partition in partitions_of(*of, *count) {
                    let owners = assigned.iter().filter(|a| a.contains(&partition)).count();
                    prop_assert_eq!(owners, usize::from(is_wanted));
                }
            }
            for (member, assigned) in members.iter().zip(&assigned) {
                prop_assert!(assigned.iter().all(|p| member.1.contains(&p.topic)));
                let exists = assigned.iter().all(|p| {
                    topics.get(&p.topic).is_some_and(|count| (p.partition.0 as u32) < *count)
                });
                prop_assert!(exists);
            }
            if !range {
                for (from, has) in assigned.iter().enumerate() {
                    for (to, other) in assigned.iter().enumerate() {
                        let could = has.iter().any(|p| members[to].1.contains(&p.topic));
                        prop_assert!(
                            !could || has.len() <= other.len() + 1,
                            "{from} has {}, {to} {}", has.len(), other.len()
                        );
                    }
                }
                for (member, assigned) in members.iter_mut().zip(&assigned) {
                    member.2.clone_from(assigned);
                }
                prop_assert_eq!(run(assignor, &members, &topics), assigned, "it is stable");
            }
        }
    }
}
