//! Replicas move to other brokers while something breaks; some moves are given up.

use anyhow::{Result, ensure};
use klamm_e2e::random::Random;

use super::during;
use crate::cluster::Cluster;
use crate::kafka::{self, Move};

const REPLICAS: usize = 3;

pub(super) fn reassign(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let mut moves = moves(cluster, random)?;
    let fault = during::change(cluster, random, |_| kafka::reassign(&moves))?;
    let gives_up = random.within(0..3) == 0;
    if gives_up {
        for one in &mut moves {
            one.replicas = None;
        }
        during::complete(cluster, "the moves are given up", |_| {
            kafka::reassign(&moves)
        })?;
    }
    during::complete(cluster, "no replica moves", |_| {
        let moving = kafka::reassigning()?;
        ensure!(moving == 0, "{moving} partitions move");
        Ok(())
    })?;
    let end = if gives_up { ", given up" } else { "" };
    Ok(format!("{} partitions move{end}; {fault}", moves.len()))
}

/// Each partition of the workload moves, or does not, to any three brokers.
fn moves(cluster: &Cluster, random: &mut Random) -> Result<Vec<Move>> {
    let mut moves = Vec::new();
    for topic in cluster.admin.describe_topics(&cluster.topics)? {
        for partition in topic.partitions {
            let replicas = cluster.some(random, REPLICAS);
            if random.within(0..2) == 0 || moves.is_empty() {
                moves.push(Move {
                    topic: topic.name.clone(),
                    partition: partition.partition,
                    replicas: Some(replicas),
                });
            }
        }
    }
    Ok(moves)
}
