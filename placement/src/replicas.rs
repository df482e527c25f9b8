//! Which brokers get the replicas of each partition. Brokers are indices into the available ones.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::Broker;

/// Brokers for each of `added` partitions, in no particular order.
pub(crate) fn choose(
    brokers: &[&Broker],
    existing: &[Vec<Option<usize>>],
    added: usize,
    replication_factor: usize,
) -> Vec<Vec<usize>> {
    let mut load = Load::new(brokers);
    for replicas in existing {
        let replicas: Vec<usize> = replicas.iter().copied().flatten().collect();
        for (position, broker) in replicas.iter().enumerate() {
            load.topic[*broker] += 1;
            load.rack_topic[load.rack_of[*broker]] += 1;
            load.meet(*broker, &replicas[..position]);
        }
    }
    (0..added)
        .map(|_| load.place_partition(replication_factor))
        .collect()
}

struct Load {
    /// Rack of each broker.
    rack_of: Vec<usize>,
    /// Brokers of each rack.
    racks: Vec<Vec<usize>>,
    /// Replicas of this topic on each broker and rack.
    topic: Vec<u64>,
    rack_topic: Vec<u64>,
    /// Replicas of all topics on each broker and rack.
    total: Vec<u64>,
    rack_total: Vec<u64>,
    /// How many partitions of the topic each two brokers share, by row and column.
    shared: Vec<u32>,
}

impl Load {
    fn new(brokers: &[&Broker]) -> Self {
        let mut by_rack: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (index, broker) in brokers.iter().enumerate() {
            by_rack
                .entry(broker.rack.as_deref())
                .or_default()
                .push(index);
        }
        let racks: Vec<Vec<usize>> = by_rack.into_values().collect();
        let mut rack_of = vec![0; brokers.len()];
        for (rack, members) in racks.iter().enumerate() {
            for member in members {
                rack_of[*member] = rack;
            }
        }
        let total: Vec<u64> = brokers
            .iter()
            .map(|broker| u64::from(broker.replicas))
            .collect();
        let rack_total = racks
            .iter()
            .map(|members| members.iter().map(|member| total[*member]).sum())
            .collect();
        Self {
            rack_of,
            topic: vec![0; brokers.len()],
            rack_topic: vec![0; racks.len()],
            racks,
            total,
            rack_total,
            shared: vec![0; brokers.len() * brokers.len()],
        }
    }

    fn place_partition(&mut self, replication_factor: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::with_capacity(replication_factor);
        let mut chosen_in_rack = vec![0; self.racks.len()];
        for _ in 0..replication_factor {
            let rack = (0..self.racks.len())
                .filter(|rack| chosen_in_rack[*rack] < self.racks[*rack].len())
                .min_by(|a, b| self.compare_racks(*a, *b, &chosen_in_rack))
                .expect("there are at least as many brokers as replicas");
            let broker = self.racks[rack]
                .iter()
                .copied()
                .filter(|broker| !chosen.contains(broker))
                .min_by_key(|broker| {
                    let shared = self.shared_with(*broker, &chosen);
                    (self.topic[*broker], self.total[*broker], shared, *broker)
                })
                .expect("the rack has room");
            self.topic[broker] += 1;
            self.rack_topic[rack] += 1;
            self.total[broker] += 1;
            self.rack_total[rack] += 1;
            self.meet(broker, &chosen);
            chosen_in_rack[rack] += 1;
            chosen.push(broker);
        }
        chosen
    }

    /// Fewer replicas of the partition first, then fewer of the topic and of all for each broker.
    fn compare_racks(&self, a: usize, b: usize, chosen_in_rack: &[usize]) -> Ordering {
        let per_broker = |counts: &[u64]| {
            let a_scaled = counts[a] * self.racks[b].len() as u64;
            let b_scaled = counts[b] * self.racks[a].len() as u64;
            a_scaled.cmp(&b_scaled)
        };
        chosen_in_rack[a]
            .cmp(&chosen_in_rack[b])
            .then_with(|| per_broker(&self.rack_topic))
            .then_with(|| per_broker(&self.rack_total))
            .then_with(|| a.cmp(&b))
    }

    fn shared_with(&self, broker: usize, chosen: &[usize]) -> u32 {
        let row = broker * self.topic.len();
        chosen.iter().map(|other| self.shared[row + other]).sum()
    }

    fn meet(&mut self, broker: usize, others: &[usize]) {
        let brokers = self.topic.len();
        for other in others {
            self.shared[broker * brokers + other] += 1;
            self.shared[other * brokers + broker] += 1;
        }
    }
}
