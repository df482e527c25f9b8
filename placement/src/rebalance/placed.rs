//! Partitions on brokers while a plan is made, and what each broker carries by it. Brokers, racks and
//! topics are indices.

use std::collections::BTreeMap;

use super::{Move, Partition, Reason, racks};
use crate::{Broker, PlacementError};

pub(super) struct Placed<'a> {
    partitions: &'a [Partition],
    /// Ids of all brokers: those that are known by id, then others that have replicas.
    ids: Vec<i32>,
    available: Vec<bool>,
    pub(super) rack_of: Vec<usize>,
    /// Available brokers of each rack.
    pub(super) racks: Vec<Vec<usize>>,
    /// Replicas of each partition, the preferred leader first.
    replicas: Vec<Vec<usize>>,
    /// Partitions of each broker, those of different topics in turn. Some may have left since.
    hosted: Vec<Vec<usize>>,
    pub(super) load: Vec<usize>,
    pub(super) bytes: Vec<u64>,
    /// Replicas by broker and topic.
    of_topic: BTreeMap<(usize, usize), usize>,
    /// By partition.
    reasons: BTreeMap<usize, Vec<Reason>>,
    /// Partitions with a reason, the first one first.
    changed: Vec<usize>,
}

impl<'a> Placed<'a> {
    pub(super) fn new(
        brokers: &[Broker],
        partitions: &'a [Partition],
    ) -> Result<Self, PlacementError> {
        let mut known: Vec<&Broker> = brokers.iter().collect();
        known.sort_by_key(|broker| broker.id);
        if let Some(pair) = known.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(PlacementError::DuplicateBroker(pair[0].id));
        }
        let rack_index = racks(known.iter().copied());
        let mut placed = Self {
            partitions,
            ids: known.iter().map(|broker| broker.id).collect(),
            available: known.iter().map(|broker| broker.available).collect(),
            rack_of: known
                .iter()
                .map(|broker| rack_index[&broker.rack.as_deref()])
                .collect(),
            racks: vec![Vec::new(); rack_index.len()],
            replicas: Vec::with_capacity(partitions.len()),
            hosted: Vec::new(),
            load: Vec::new(),
            bytes: Vec::new(),
            of_topic: BTreeMap::new(),
            reasons: BTreeMap::new(),
            changed: Vec::new(),
        };
        for (index, broker) in known.iter().enumerate() {
            if broker.available {
                placed.racks[placed.rack_of[index]].push(index);
            }
        }
        placed.place_all();
        Ok(placed)
    }

    fn place_all(&mut self) {
        let known = self.ids.iter().enumerate();
        let mut index: BTreeMap<i32, usize> = known.map(|(index, id)| (*id, index)).collect();
        let partitions = self.partitions;
        for partition in partitions {
            let replicas = partition.replicas.iter().map(|id| {
                *index.entry(*id).or_insert_with(|| {
                    // A broker that nobody knows is in a rack that has no other.
                    self.ids.push(*id);
                    self.available.push(false);
                    self.rack_of.push(self.racks.len());
                    self.racks.push(Vec::new());
                    self.ids.len() - 1
                })
            });
            let replicas = replicas.collect();
            self.replicas.push(replicas);
        }
        self.hosted = vec![Vec::new(); self.ids.len()];
        self.load = vec![0; self.ids.len()];
        self.bytes = vec![0; self.ids.len()];
        for partition in topics_in_turn(partitions) {
            for broker in self.replicas[partition].clone() {
                self.count_in(partition, broker);
            }
        }
    }

    pub(super) fn id(&self, broker: usize) -> i32 {
        self.ids[broker]
    }

    pub(super) fn is_available(&self, broker: usize) -> bool {
        self.available[broker]
    }

    /// Available brokers.
    pub(super) fn brokers(&self) -> impl Iterator<Item = usize> {
        let all = 0..self.ids.len();
        all.filter(|broker| self.available[*broker])
    }

    /// All partitions.
    pub(super) fn all(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.partitions.len()
    }

    /// Partitions that may change.
    pub(super) fn movable(&self) -> impl Iterator<Item = usize> + use<'a> {
        let partitions = self.partitions;
        (0..partitions.len()).filter(|partition| !partitions[*partition].pinned)
    }

    pub(super) fn is_pinned(&self, partition: usize) -> bool {
        self.partitions[partition].pinned
    }

    pub(super) fn size(&self, partition: usize) -> u64 {
        self.partitions[partition].bytes
    }

    pub(super) fn replicas(&self, partition: usize) -> &[usize] {
        &self.replicas[partition]
    }

    pub(super) fn has(&self, broker: usize, partition: usize) -> bool {
        self.replicas[partition].contains(&broker)
    }

    /// How many replicas of the partition are in the rack.
    pub(super) fn in_rack(&self, partition: usize, rack: usize) -> usize {
        let replicas = self.replicas[partition].iter();
        replicas.filter(|b| self.rack_of[**b] == rack).count()
    }

    /// How many more replicas of the partition's topic `from` has than `to`.
    pub(super) fn topic_surplus(&self, partition: usize, from: usize, to: usize) -> usize {
        let topic = self.partitions[partition].topic;
        let of = |broker| self.of_topic.get(&(broker, topic)).copied().unwrap_or(0);
        of(from).saturating_sub(of(to))
    }

    /// Whether the replica may go from one broker to the other: no rack gets more replicas of the
    /// partition than another one had.
    pub(super) fn may_move(&self, partition: usize, from: usize, to: usize) -> bool {
        !self.is_pinned(partition)
            && self.has(from, partition)
            && !self.has(to, partition)
            && self.keeps_racks(partition, from, to)
    }

    pub(super) fn keeps_racks(&self, partition: usize, from: usize, to: usize) -> bool {
        let (rack_from, rack_to) = (self.rack_of[from], self.rack_of[to]);
        rack_from == rack_to
            || self.in_rack(partition, rack_to) < self.in_rack(partition, rack_from)
    }

    /// Partitions of the broker, and perhaps some that it had: see [`Self::has`].
    pub(super) fn hosted(&self, broker: usize) -> &[usize] {
        &self.hosted[broker]
    }

    /// Forgets partitions that have left the broker.
    pub(super) fn tidy(&mut self, broker: usize) {
        let replicas = &self.replicas;
        self.hosted[broker].retain(|partition| replicas[*partition].contains(&broker));
    }

    /// The replica on `from` goes to `to`, into the same place of the order.
    pub(super) fn relocate(&mut self, partition: usize, from: usize, to: usize, reason: Reason) {
        let mut replicas = self.replicas[partition].iter_mut();
        let place = replicas.find(|broker| **broker == from);
        *place.expect("a replica that moves is there") = to;
        let Partition { topic, bytes, .. } = self.partitions[partition];
        self.load[from] -= 1;
        self.bytes[from] -= bytes;
        if let Some(count) = self.of_topic.get_mut(&(from, topic)) {
            *count -= 1;
        }
        self.count_in(partition, to);
        self.note(partition, reason);
    }

    /// The replica at `position` becomes the preferred leader; the others keep their order.
    pub(super) fn lead(&mut self, partition: usize, position: usize, reason: Reason) {
        self.replicas[partition][..=position].rotate_right(1);
        self.note(partition, reason);
    }

    fn count_in(&mut self, partition: usize, broker: usize) {
        let Partition { topic, bytes, .. } = self.partitions[partition];
        self.hosted[broker].push(partition);
        self.load[broker] += 1;
        self.bytes[broker] += bytes;
        *self.of_topic.entry((broker, topic)).or_default() += 1;
    }

    fn note(&mut self, partition: usize, reason: Reason) {
        let reasons = self.reasons.entry(partition).or_default();
        if reasons.is_empty() {
            self.changed.push(partition);
        }
        reasons.push(reason);
    }

    /// Partitions that are not as they were. The ones that are copied first.
    pub(super) fn into_moves(self) -> Vec<Move> {
        let Self {
            partitions,
            ids,
            replicas,
            mut reasons,
            changed,
            ..
        } = self;
        let moves = changed.into_iter().map(|partition| Move {
            partition,
            replicas: replicas[partition].iter().map(|b| ids[*b]).collect(),
            reasons: reasons.remove(&partition).unwrap_or_default(),
        });
        let mut moves: Vec<Move> = moves
            .filter(|planned| planned.replicas != partitions[planned.partition].replicas)
            .collect();
        let reorders = |planned: &Move| {
            let before = &partitions[planned.partition].replicas;
            planned.replicas.iter().all(|id| before.contains(id))
        };
        moves.sort_by_key(reorders);
        moves
    }
}

/// All partitions, the first of each topic before the second of any.
fn topics_in_turn(partitions: &[Partition]) -> Vec<usize> {
    let mut next_of_topic: BTreeMap<usize, usize> = BTreeMap::new();
    let turns = partitions.iter().enumerate().map(|(index, partition)| {
        let next = next_of_topic.entry(partition.topic).or_default();
        *next += 1;
        (*next, index)
    });
    let mut turns: Vec<(usize, usize)> = turns.collect();
    turns.sort_unstable();
    turns.into_iter().map(|(_, index)| index).collect()
}
