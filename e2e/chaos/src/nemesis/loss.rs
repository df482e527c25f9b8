//! A network that loses packets.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::fault_time;
use crate::cluster::{BROKERS, Cluster};
use crate::network::Host;

/// Of a hundred packets; TCP with more than that hardly moves.
const PERCENT_MIN: u64 = 2;
const PERCENT_MAX: u64 = 15;

pub(super) fn loss(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let percent = random.within(PERCENT_MIN..PERCENT_MAX + 1);
    for id in 0..BROKERS {
        cluster
            .network
            .lose(Host::Broker(id), percent as f64 / 100.0)?;
    }
    let time = fault_time(random);
    cluster.hold(time)?;
    Ok(format!("{percent} % of the packets lost for {time:?}"))
}
