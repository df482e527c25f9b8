//! One round: topics and clients of its own, nemeses one after the other, then everything heals, is
//! read and checked.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use klamm_e2e::random::Random;

use crate::check::{self, Anomaly, progress, progress::Fault};
use crate::clock::{now_us, seconds};
use crate::cluster::Cluster;
use crate::history::{History, Role, What};
use crate::nemesis::{Nemesis, Promise};
use crate::schedule::Round;
use crate::workload::{Topic, Workload};

/// After a fault has healed, every partition acknowledges something within this time.
const PROGRESS_LIMIT: Duration = Duration::from_secs(30);
/// How long the harness waits for it, so that it can tell how long it took.
const PROGRESS_WAIT: Duration = Duration::from_secs(90);
const FIRST_PROGRESS_WAIT: Duration = Duration::from_secs(60);
/// Between the recovery from one fault and the next one.
const QUIET: Duration = Duration::from_millis(700);

const NEVER_FLUSHED: [(&str, &str); 1] = [("flush.messages", "9223372036854775807")];

/// A number of messages and what became of them.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Operations {
    pub(crate) sent: usize,
    pub(crate) acknowledged: usize,
    /// Given up by their producer
    pub(crate) unknown: usize,
    /// Consumed by the group, some of them more than once
    pub(crate) consumed: usize,
    pub(crate) commits: usize,
    /// Found in the end where they were copied to
    pub(crate) copied: usize,
    /// Transactions that copiers aborted, on purpose or after an error
    pub(crate) aborted: usize,
}

/// What a round gave.
pub(crate) struct Outcome {
    pub(crate) faults: Vec<Fault>,
    pub(crate) operations: Operations,
    pub(crate) anomalies: Vec<Anomaly>,
    pub(crate) history: History,
    /// The most that a broker had
    pub(crate) memory_bytes_max: u64,
    /// What each broker had when all had healed
    pub(crate) memory_bytes: Vec<u64>,
}

/// Runs a round; no nemesis begins after `deadline`.
///
/// # Errors
/// When the harness, or the cluster so that the harness can't go on, fails.
pub(crate) fn run(
    cluster: &mut Cluster,
    round: &Round,
    number: usize,
    random: &mut Random,
    deadline: Instant,
) -> Result<Outcome> {
    let topics = topics(round.promise, number);
    let copies = Topic {
        name: format!("copied-{number}"),
        ..topics[0].clone()
    };
    create(cluster, topics.iter().chain([&copies]))?;
    let workload = Workload::start(&topics, &copies, number, cluster.directory())?;
    cluster
        .wait_until("messages are acknowledged", FIRST_PROGRESS_WAIT, |_| {
            workload.has_progressed_since(0)
        })
        .context("before any fault")?;

    let mut faults = Vec::new();
    for nemesis in &round.nemeses {
        if Instant::now() >= deadline {
            break;
        }
        faults.push(inject(cluster, nemesis, random, &workload)?);
        cluster.hold(QUIET)?;
    }
    let in_sync = cluster.wait_until_in_sync();
    let (history, stuck) = workload
        .finish()
        .with_context(|| format!("after waiting for replicas in sync: {in_sync:?}"))?;
    let mut anomalies = check::check(&history);
    anomalies.extend(stuck.into_iter().map(|client| Anomaly {
        invariant: "client-stuck",
        at_us: now_us(),
        place: None,
        messages: Vec::new(),
        what: format!("{client} did not end when it was asked to; what it did is in its log"),
    }));
    if let Err(error) = in_sync {
        anomalies.push(Anomaly {
            invariant: "not-in-sync",
            at_us: now_us(),
            place: None,
            messages: Vec::new(),
            what: format!("{error:#}"),
        });
    }
    progress::measure(&history, &mut faults);
    let limit_us = PROGRESS_LIMIT.as_micros() as u64;
    anomalies.extend(progress::check(&history, &faults, limit_us));
    let memory_bytes = cluster.memory_bytes();
    let (own, memory_bytes_max) = cluster.take_anomalies();
    anomalies.extend(own);
    // Whoever looks for the cause finds the logs.
    if anomalies.is_empty() {
        delete(cluster)?;
    }
    Ok(Outcome {
        faults,
        operations: count(&history),
        anomalies,
        history,
        memory_bytes_max,
        memory_bytes,
    })
}

/// Breaks something, mends it, and waits until there is progress.
fn inject(
    cluster: &mut Cluster,
    nemesis: &Nemesis,
    random: &mut Random,
    workload: &Workload,
) -> Result<Fault> {
    let start_us = now_us();
    let what = (nemesis.run)(cluster, random).with_context(|| nemesis.name)?;
    println!(
        "{:>8.1} s {}: {what}",
        seconds(now_us() - start_us),
        nemesis.name
    );
    cluster
        .heal()
        .with_context(|| format!("after {}: {what}", nemesis.name))?;
    let stop_us = now_us();
    // That there was none is found by the check of the history.
    let _ = cluster.wait_until("there is progress", PROGRESS_WAIT, |_| {
        workload.has_progressed_since(stop_us)
    });
    Ok(Fault {
        nemesis: nemesis.name,
        what,
        start_us,
        stop_us,
        end_us: now_us(),
        stall_us: 0,
    })
}

/// What producers send to; the first topic is the one that is copied. Topics are flushed by default
/// here; the others rely on replication alone.
fn topics(promise: Promise, number: usize) -> Vec<Topic> {
    let topic = |name: &str, partitions, config| Topic {
        name: format!("{name}-{number}"),
        partitions,
        config,
    };
    let flushed = |partitions| topic("flushed", partitions, &[]);
    match promise {
        Promise::Everything => vec![topic("cached", 6, &NEVER_FLUSHED), flushed(3)],
        Promise::FlushedTopics => vec![flushed(6)],
    }
}

fn create<'a>(cluster: &mut Cluster, topics: impl Iterator<Item = &'a Topic>) -> Result<()> {
    cluster.topics.clear();
    for topic in topics {
        let (name, partitions) = (&topic.name, topic.partitions);
        cluster.admin.create_topic(name, partitions, topic.config)?;
        cluster.topics.push(name.clone());
    }
    Ok(())
}

fn delete(cluster: &Cluster) -> Result<()> {
    for topic in cluster.admin.describe_topics(&cluster.topics)? {
        cluster.admin.delete_topic(&topic)?;
    }
    Ok(())
}

fn count(history: &History) -> Operations {
    let mut operations = Operations::default();
    for event in &history.events {
        match (history.clients[event.client].role, &event.what) {
            (_, What::Invoked(..)) => operations.sent += 1,
            (_, What::Acknowledged(..) | What::AcknowledgedBefore(..)) => {
                operations.acknowledged += 1;
            }
            (_, What::Unknown(..)) => operations.unknown += 1,
            (Role::Member, What::Read(..)) => operations.consumed += 1,
            (_, What::Committed(..)) => operations.commits += 1,
            (Role::CopyReader, What::Read(..)) => operations.copied += 1,
            (_, What::Aborted) => operations.aborted += 1,
            _ => {}
        }
    }
    operations
}
