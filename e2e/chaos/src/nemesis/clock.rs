//! Wall clocks that jump, some brokers' forward, some backward, and back again.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::time;
use crate::cluster::Cluster;

/// Far below the times after which data is deleted.
const JUMP_SECONDS_MAX: u64 = 3_600;

pub(super) fn jump(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let count = usize::try_from(random.within(1..6))?;
    let mut jumps = Vec::new();
    for id in cluster.some(random, count) {
        let seconds = i64::try_from(random.within(1..2 * JUMP_SECONDS_MAX))?;
        let seconds = seconds - i64::try_from(JUMP_SECONDS_MAX)?;
        cluster.broker(id).set_clock(seconds)?;
        jumps.push(format!("broker {id} {seconds:+} s"));
    }
    let time = time(random, 3_000, 6_000);
    cluster.hold(time)?;
    Ok(format!("{} for {time:?}", jumps.join(", ")))
}
