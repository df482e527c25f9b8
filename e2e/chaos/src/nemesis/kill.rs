//! SIGKILL: the process dies, its page cache does not.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::{list, time};
use crate::cluster::{BROKERS, Cluster};

pub(super) fn one(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let ids = cluster.some(random, 1);
    kill(cluster, random, &ids)
}

pub(super) fn leader(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.a_leader(random);
    kill(cluster, random, &[id])
}

pub(super) fn controller(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.the_controller(random);
    kill(cluster, random, &[id])
}

pub(super) fn minority(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let ids = cluster.some(random, 2);
    kill(cluster, random, &ids)
}

pub(super) fn majority(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let ids = cluster.some(random, 3);
    kill(cluster, random, &ids)
}

pub(super) fn all(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let ids = cluster.some(random, usize::from(BROKERS));
    kill(cluster, random, &ids)
}

fn kill(cluster: &mut Cluster, random: &mut Random, ids: &[u16]) -> Result<String> {
    for &id in ids {
        cluster.broker(id).kill()?;
    }
    let down = time(random, 0, 4_000);
    cluster.hold(down)?;
    Ok(format!("broker {} killed, down for {down:?}", list(ids)))
}
