//! A fault under which the cluster is changed: it begins here and ends with [`Cluster::heal`].

use std::time::Duration;

use anyhow::Result;
use klamm_e2e::random::Random;

use super::{fault_time, list, time};
use crate::cluster::{BROKERS, Cluster};
use crate::disk::Faults;
use crate::network::Host::Broker;

/// After the fault has ended, a change that is under way is complete within this time.
pub(super) const CHANGE_LIMIT: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
const LOST_PORTION: f64 = 0.1;

/// Begins a fault.
fn begin(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let anyone = cluster.any(random);
    match random.within(0..8) {
        0 => kill(cluster, anyone),
        1 => {
            let id = cluster.the_controller(random);
            kill(cluster, id)
        }
        2 => pause(cluster, anyone),
        3 => {
            let id = cluster.the_controller(random);
            pause(cluster, id)
        }
        4 => {
            let lost = cluster.broker(anyone).lose_power(random)?;
            Ok(format!("broker {anyone} lost power and {lost}"))
        }
        5 => {
            let mut one = cluster.some(random, usize::from(BROKERS));
            let other = one.split_off(2);
            for (&a, &b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                cluster.network.cut(Broker(a), Broker(b))?;
            }
            Ok(format!("{} cut from {}", list(&one), list(&other)))
        }
        6 => {
            for id in 0..BROKERS {
                cluster.network.lose(Broker(id), LOST_PORTION)?;
            }
            Ok(format!("{LOST_PORTION} of the packets lost"))
        }
        _ => {
            let sync_delay = time(random, 50, 500);
            let faults = Faults {
                sync_delay,
                ..Faults::default()
            };
            cluster.broker(anyone).disk.set_faults(faults);
            Ok(format!("broker {anyone}: fsync +{sync_delay:?}"))
        }
    }
}

fn kill(cluster: &mut Cluster, id: u16) -> Result<String> {
    cluster.broker(id).kill()?;
    Ok(format!("broker {id} killed"))
}

fn pause(cluster: &mut Cluster, id: u16) -> Result<String> {
    cluster.broker(id).pause()?;
    Ok(format!("broker {id} paused"))
}

/// Makes `change` succeed, around the beginning of a fault, under it, or, if nobody takes it then,
/// once the fault has ended. Two replicas never lose power one after the other before this.
pub(super) fn change(
    cluster: &mut Cluster,
    random: &mut Random,
    mut change: impl FnMut(&mut Cluster) -> Result<()>,
) -> Result<String> {
    cluster.wait_until_in_sync()?;
    let is_before = random.within(0..2) == 0;
    let mut is_done = is_before && change(cluster).is_ok();
    let between = time(random, 0, 500);
    cluster.hold(between)?;
    let fault = begin(cluster, random)?;
    cluster.hold(between)?;
    is_done = is_done || change(cluster).is_ok();
    let time = fault_time(random);
    cluster.hold(time)?;
    cluster.heal()?;
    if !is_done {
        complete(cluster, "the change is accepted", change)?;
    }
    Ok(format!("{fault}, for {time:?}"))
}

/// Waits until a change is complete, which `check` tells; one that is not in time is an anomaly.
///
/// # Errors
/// When a broker can't be looked at.
pub(super) fn complete(
    cluster: &mut Cluster,
    what: &str,
    mut check: impl FnMut(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let start = std::time::Instant::now();
    while let Err(missing) = check(cluster) {
        if start.elapsed() > CHANGE_LIMIT {
            let what = format!("waited {CHANGE_LIMIT:?} in vain until {what}: {missing:#}");
            cluster.add_anomaly("stuck", what);
            return Ok(());
        }
        cluster.hold(RETRY_INTERVAL)?;
    }
    Ok(())
}
