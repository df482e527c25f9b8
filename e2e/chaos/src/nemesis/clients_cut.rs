//! Clients that don't reach some of the brokers, which reach each other.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::{fault_time, list};
use crate::cluster::Cluster;
use crate::network::Host::{Broker, Clients};

pub(super) fn clients_cut(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let count = usize::try_from(random.within(1..4))?;
    let ids = cluster.some(random, count);
    for &id in &ids {
        cluster.network.cut(Clients, Broker(id))?;
    }
    let time = fault_time(random);
    cluster.hold(time)?;
    Ok(format!("clients from {} for {time:?}", list(&ids)))
}
