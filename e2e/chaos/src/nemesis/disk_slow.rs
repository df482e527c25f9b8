//! A disk on which everything takes long.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::{fault_time, time};
use crate::cluster::Cluster;
use crate::disk::Faults;

pub(super) fn slow(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.a_leader(random);
    let faults = Faults {
        write_delay: time(random, 0, 50),
        sync_delay: time(random, 10, 500),
        ..Faults::default()
    };
    cluster.broker(id).disk.set_faults(faults);
    let time = fault_time(random);
    cluster.hold(time)?;
    let Faults {
        write_delay,
        sync_delay,
        ..
    } = faults;
    Ok(format!(
        "leader {id}: write +{write_delay:?}, fsync +{sync_delay:?}, for {time:?}"
    ))
}
