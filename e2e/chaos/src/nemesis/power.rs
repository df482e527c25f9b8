//! Power loss: the process dies together with everything that it had not synced, and starts under
//! another boot id.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::time;
use crate::cluster::{BROKERS, Cluster};

/// Never two at once: everything must be in sync before, or a replica that is still catching up
/// after the power loss before counts as a second one.
pub(super) fn one(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    cluster.wait_until_in_sync()?;
    lose(cluster, random, 1)
}

pub(super) fn majority(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    lose(cluster, random, 3)
}

pub(super) fn all(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    lose(cluster, random, usize::from(BROKERS))
}

fn lose(cluster: &mut Cluster, random: &mut Random, count: usize) -> Result<String> {
    let ids = cluster.some(random, count);
    // All at the same moment: none acknowledges after another has lost something.
    for &id in &ids {
        cluster.broker(id).kill()?;
    }
    let mut lost = Vec::new();
    for &id in &ids {
        let what = cluster.broker(id).lose_power(random)?;
        lost.push(format!("broker {id} lost {what}"));
    }
    let down = time(random, 0, 3_000);
    cluster.hold(down)?;
    Ok(format!("{}; down for {down:?}", lost.join("; ")))
}
