//! A full disk that has room again later: the broker may stop and start again, but needs nobody's
//! help.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::fault_time;
use crate::cluster::Cluster;
use crate::disk::Faults;

pub(super) fn full(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.a_leader(random);
    cluster.allow_death(id);
    let faults = Faults {
        full: true,
        ..Faults::default()
    };
    cluster.broker(id).disk.set_faults(faults);
    let time = fault_time(random);
    cluster.hold(time)?;
    Ok(format!("leader {id}: disk full for {time:?}"))
}
