//! Partitions between brokers; clients reach all of them.

use anyhow::Result;
use klamm_e2e::random::Random;

use super::{fault_time, list};
use crate::cluster::{BROKERS, Cluster};
use crate::network::Host::Broker;

/// Two groups that don't see each other.
pub(super) fn halves(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let mut one = cluster.some(random, usize::from(BROKERS));
    let other = one.split_off(2);
    cut(cluster, &one, &other)?;
    hold(
        cluster,
        random,
        format!("{} from {}", list(&one), list(&other)),
    )
}

/// One broker that is not heard, or does not hear.
pub(super) fn one_way(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.any(random);
    let is_mute = random.within(0..2) == 0;
    for other in (0..BROKERS).filter(|other| *other != id) {
        if is_mute {
            cluster.network.block(Broker(id), Broker(other))?;
        } else {
            cluster.network.block(Broker(other), Broker(id))?;
        }
    }
    let what = if is_mute {
        "is not heard"
    } else {
        "does not hear"
    };
    hold(cluster, random, format!("broker {id} {what}"))
}

/// Two groups that only one broker sees both of.
pub(super) fn bridge(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let ids = cluster.some(random, usize::from(BROKERS));
    cut(cluster, &ids[..2], &ids[3..])?;
    let (one, other) = (list(&ids[..2]), list(&ids[3..]));
    hold(
        cluster,
        random,
        format!("{one} from {other}, {} sees both", ids[2]),
    )
}

/// A leader that sees no other broker, while clients see it.
pub(super) fn leader(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let id = cluster.a_leader(random);
    let others: Vec<_> = (0..BROKERS).filter(|other| *other != id).collect();
    cut(cluster, &[id], &others)?;
    hold(cluster, random, format!("leader {id} from all others"))
}

fn cut(cluster: &Cluster, one: &[u16], other: &[u16]) -> Result<()> {
    for &a in one {
        for &b in other {
            cluster.network.cut(Broker(a), Broker(b))?;
        }
    }
    Ok(())
}

fn hold(cluster: &mut Cluster, random: &mut Random, what: String) -> Result<String> {
    let time = fault_time(random);
    cluster.hold(time)?;
    Ok(format!("{what}, for {time:?}"))
}
