//! SIGSTOP, mostly for longer than the session time-out, then SIGCONT: the process wakes up in a
//! world that went on without it.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::fault_time;
use crate::cluster::Cluster;

pub(super) fn one(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.any(random);
    pause(cluster, random, id)
}

pub(super) fn leader(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.a_leader(random);
    pause(cluster, random, id)
}

pub(super) fn controller(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.the_controller(random);
    pause(cluster, random, id)
}

fn pause(cluster: &mut Cluster, random: &mut Random, id: u16) -> Result<String> {
    let time = fault_time(random);
    cluster.broker(id).pause()?;
    cluster.hold(time)?;
    cluster.broker(id).resume()?;
    Ok(format!("broker {id} paused for {time:?}"))
}
