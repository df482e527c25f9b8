//! A rolling restart: every broker is asked to stop, and started again, one after the other.

use std::time::Duration;

use anyhow::Result;
use klamm_e2e::random::Random;

use crate::broker::Broker;
use crate::cluster::{BROKERS, Cluster};

const READY_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn rolling(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let ids = cluster.some(random, usize::from(BROKERS));
    for &id in &ids {
        cluster.broker(id).terminate()?;
        cluster.wait_until_stopped(id)?;
        cluster.broker(id).start()?;
        cluster.wait_until("the broker serves again", READY_LIMIT, |cluster| {
            Broker::is_ready(&cluster.brokers[usize::from(id)])
        })?;
    }
    Ok(format!(
        "brokers restarted in the order {}",
        super::list(&ids)
    ))
}
