//! A disk that fails. The broker may stop, or go on without it; what failed once stays failed until
//! the broker is restarted, so it is killed at the end.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::fault_time;
use crate::cluster::Cluster;
use crate::disk::Faults;

/// EIO on write.
pub(super) fn writes(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let faults = Faults {
        fail_writes: true,
        ..Faults::default()
    };
    fail(cluster, random, faults, "writes")
}

/// EIO on fsync.
pub(super) fn syncs(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let faults = Faults {
        fail_syncs: true,
        ..Faults::default()
    };
    fail(cluster, random, faults, "fsyncs")
}

fn fail(cluster: &mut Cluster, random: &mut Random, faults: Faults, what: &str) -> Result<String> {
    let id = cluster.a_leader(random);
    cluster.allow_death(id);
    cluster.broker(id).disk.set_faults(faults);
    let time = fault_time(random);
    cluster.hold(time)?;
    cluster.broker(id).kill()?;
    Ok(format!(
        "leader {id}: {what} fail for {time:?}, then killed"
    ))
}
