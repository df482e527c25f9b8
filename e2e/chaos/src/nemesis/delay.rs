//! A network that delays packets, each by another time, so that they also overtake each other.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::{fault_time, list, time};
use crate::cluster::Cluster;
use crate::network::Host;

pub(super) fn delay(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let count = usize::try_from(random.within(1..6))?;
    let ids = cluster.some(random, count);
    let most = time(random, 5, 300);
    for &id in &ids {
        cluster.network.delay(Host::Broker(id), most)?;
    }
    let time = fault_time(random);
    cluster.hold(time)?;
    Ok(format!(
        "packets to broker {} delayed by up to {most:?} for {time:?}",
        list(&ids)
    ))
}
