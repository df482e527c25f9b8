//! What goes wrong: one fault a file. A nemesis injects its fault, holds it for a while, and says
//! what it did; everything that it changed is put back by [`Cluster::heal`] after it.

mod clients_cut;
mod clock;
mod delay;
mod disk_failing;
mod disk_full;
mod disk_slow;
mod drain;
mod during;
mod kill;
mod loss;
mod partition;
mod pause;
mod power;
mod reassign;
mod terminate;
mod voters;

use std::time::Duration;

use anyhow::Result;
use klamm_e2e::random::Random;

use crate::cluster::Cluster;

/// What must survive a nemesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Everything acknowledged with acks=all
    Everything,
    /// What is in topics with `flush.messages=1`: as many replicas as `min.insync.replicas` lose
    /// what they had not synced
    FlushedTopics,
}

pub(crate) struct Nemesis {
    pub(crate) name: &'static str,
    pub(crate) promise: Promise,
    pub(crate) run: fn(&mut Cluster, &mut Random) -> Result<String>,
}

/// Every nemesis.
pub(crate) const ALL: &[Nemesis] = &[
    everything("kill-one", kill::one),
    everything("kill-leader", kill::leader),
    everything("kill-controller", kill::controller),
    everything("kill-minority", kill::minority),
    everything("kill-majority", kill::majority),
    everything("kill-all", kill::all),
    everything("terminate", terminate::rolling),
    everything("pause-one", pause::one),
    everything("pause-leader", pause::leader),
    everything("pause-controller", pause::controller),
    everything("partition-halves", partition::halves),
    everything("partition-one-way", partition::one_way),
    everything("partition-bridge", partition::bridge),
    everything("partition-leader", partition::leader),
    everything("clients-cut", clients_cut::clients_cut),
    everything("loss", loss::loss),
    everything("delay", delay::delay),
    everything("disk-slow", disk_slow::slow),
    everything("disk-write-error", disk_failing::writes),
    everything("disk-sync-error", disk_failing::syncs),
    everything("disk-full", disk_full::full),
    everything("power-one", power::one),
    everything("clock", clock::jump),
    everything("reassign", reassign::reassign),
    everything("drain", drain::drain),
    everything("voters", voters::replace),
    flushed_topics("power-majority", power::majority),
    flushed_topics("power-all", power::all),
];

type Run = fn(&mut Cluster, &mut Random) -> Result<String>;

const fn everything(name: &'static str, run: Run) -> Nemesis {
    Nemesis {
        name,
        promise: Promise::Everything,
        run,
    }
}

const fn flushed_topics(name: &'static str, run: Run) -> Nemesis {
    Nemesis {
        name,
        promise: Promise::FlushedTopics,
        run,
    }
}

/// A time between two numbers of milliseconds.
fn time(random: &mut Random, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(random.within(from_ms..to_ms))
}

/// How long a fault lasts that brokers notice by session time-out and replica lag: beyond both, or
/// short of them.
fn fault_time(random: &mut Random) -> Duration {
    time(random, 2_000, 7_000)
}

fn list(brokers: &[u16]) -> String {
    let ids: Vec<_> = brokers.iter().map(u16::to_string).collect();
    ids.join(", ")
}
