//! All replicas leave a broker while something breaks; some drains are called off before the end.

use anyhow::{Result, ensure};
use klamm_e2e::random::Random;
use klamm_proto::v1::drain_status_response::State;

use super::during;
use crate::cluster::Cluster;

pub(super) fn drain(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.any(random);
    let fault = during::change(cluster, random, |cluster| cluster.admin.start_drain(id))?;
    let is_called_off = random.within(0..3) == 0;
    if !is_called_off {
        during::complete(cluster, "the broker is drained", |cluster| {
            let status = cluster.admin.drain_status(id)?;
            ensure!(status.state() == State::Drained, "{status:?}");
            Ok(())
        })?;
    }
    during::complete(cluster, "the drain is called off", |cluster| {
        cluster.admin.cancel_drain(id)
    })?;
    let end = if is_called_off { ", called off" } else { "" };
    Ok(format!("broker {id} is drained{end}; {fault}"))
}
