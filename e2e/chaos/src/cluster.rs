//! Five brokers, their restarter, and the record of what they did by themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use klamm_e2e::random::Random;

use crate::admin::Admin;
use crate::broker::{Broker, CLIENT_PORT, Condition, RPC_PORT};
use crate::check::Anomaly;
use crate::clock::now_us;
use crate::disk::Faults;
use crate::network::{Host, Network};

pub(crate) const BROKERS: u16 = 5;
/// Brokers 0 to 2 vote.
pub(crate) const VOTERS: u16 = 3;
/// Shorter than the default, so that faults outlast it within seconds.
pub(crate) const REPLICA_LAG_TIME_MAX: Duration = Duration::from_secs(4);
const READY_LIMIT: Duration = Duration::from_secs(60);
const IN_SYNC_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A broker that died by itself is started again after this time.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// More than brokers with this load need, whatever happens to them.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

pub(crate) struct Cluster {
    directory: PathBuf,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) network: Network,
    pub(crate) admin: Admin,
    /// The topics of the workload, from which nemeses choose leaders
    pub(crate) topics: Vec<String>,
    /// Brokers whose disk fails, and which may therefore stop by themselves
    may_die: BTreeSet<u16>,
    died_at: Vec<Option<Instant>>,
    anomalies: Vec<Anomaly>,
    memory_bytes_max: u64,
}

impl Cluster {
    /// Starts five brokers with their data below `directory` and waits until they serve.
    ///
    /// # Errors
    /// When one of them does not.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let network = Network::new(BROKERS)?;
        let token = "chaos-token-of-one-cluster";
        let token_file = directory.join("rpc-token");
        fs::write(&token_file, token)?;
        let common = common_settings(&token_file);
        let brokers = (0..BROKERS).map(|id| Broker::new(id, directory, &common));
        let mut cluster = Self {
            directory: directory.to_owned(),
            brokers: brokers.collect::<Result<_>>()?,
            network,
            admin: Admin::new(token, BROKERS)?,
            topics: Vec::new(),
            may_die: BTreeSet::new(),
            died_at: vec![None; usize::from(BROKERS)],
            anomalies: Vec::new(),
            memory_bytes_max: 0,
        };
        for broker in &mut cluster.brokers {
            broker.start()?;
        }
        cluster.wait_until_ready()?;
        for broker in &cluster.brokers {
            broker.ensure_clock_can_move()?;
        }
        Ok(cluster)
    }

    /// Where brokers and clients have their files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn broker(&mut self, id: u16) -> &mut Broker {
        &mut self.brokers[usize::from(id)]
    }

    /// The addresses for clients.
    pub(crate) fn bootstrap() -> String {
        let address = |id| format!("{}:{CLIENT_PORT}", Host::Broker(id).address());
        (0..BROKERS).map(address).collect::<Vec<_>>().join(",")
    }

    /// A random broker that leads a partition of the workload; any one if none is known.
    pub(crate) fn a_leader(&self, random: &mut Random) -> u16 {
        let topics = self.admin.describe_topics(&self.topics).unwrap_or_default();
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let leaders: Vec<_> = partitions
            .filter_map(|partition| u16::try_from(partition.leader).ok())
            .collect();
        if leaders.is_empty() {
            return self.any(random);
        }
        let nth = random.within(0..leaders.len() as u64);
        leaders[usize::try_from(nth).expect("an index")]
    }

    /// The broker of the active controller; any voter if none is known.
    pub(crate) fn the_controller(&self, random: &mut Random) -> u16 {
        let known = self.admin.controller();
        known.unwrap_or_else(|| random.within(0..VOTERS.into()) as u16)
    }

    /// A random broker.
    pub(crate) fn any(&self, random: &mut Random) -> u16 {
        random.within(0..BROKERS.into()) as u16
    }

    /// So many different brokers, in random order.
    pub(crate) fn some(&self, random: &mut Random, count: usize) -> Vec<u16> {
        let mut ids: Vec<_> = (0..BROKERS).collect();
        crate::schedule::shuffle(&mut ids, random);
        ids.truncate(count);
        ids
    }

    /// From now on the broker may end by itself, and is started again, without that being an
    /// anomaly; until [`Self::heal`].
    pub(crate) fn allow_death(&mut self, id: u16) {
        self.may_die.insert(id);
    }

    /// Waits, and watches over the brokers meanwhile.
    ///
    /// # Errors
    /// When a broker can't be looked at or started again.
    pub(crate) fn hold(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            self.watch()?;
            let left = time.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(POLL_INTERVAL));
        }
    }

    /// Waits until `done` holds, and watches over the brokers meanwhile.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > limit {
                bail!("waited {limit:?} in vain until {what}");
            }
            self.hold(POLL_INTERVAL)?;
        }
        Ok(())
    }

    fn watch(&mut self) -> Result<()> {
        for broker in &mut self.brokers {
            let id = broker.id();
            self.memory_bytes_max = self.memory_bytes_max.max(broker.memory_bytes());
            let died_at = &mut self.died_at[usize::from(id)];
            // Whoever stops a broker sees to its end.
            if broker.condition() != Condition::Stopped
                && let Some(status) = broker.take_end()?
            {
                *died_at = Some(Instant::now());
                if !self.may_die.contains(&id) {
                    let what = format!("broker {id} ended by itself: {status}");
                    println!("             {what}");
                    self.anomalies.push(anomaly("died", what));
                }
            }
            if died_at.is_some_and(|at| at.elapsed() > RESTART_AFTER) {
                *died_at = None;
                broker.start()?;
            }
        }
        Ok(())
    }

    /// Waits until a broker that was asked to stop has stopped; one that does not is an anomaly.
    ///
    /// # Errors
    /// When the broker can't be looked at.
    pub(crate) fn wait_until_stopped(&mut self, id: u16) -> Result<()> {
        let start = Instant::now();
        loop {
            let status = self.broker(id).take_end()?;
            if let Some(status) = status {
                if !status.success() && !self.may_die.contains(&id) {
                    let what = format!("broker {id} was asked to stop: {status}");
                    self.anomalies.push(anomaly("died", what));
                }
                return Ok(());
            }
            if start.elapsed() > STOP_LIMIT {
                let what = format!("broker {id} did not stop within {STOP_LIMIT:?}");
                self.anomalies.push(anomaly("did-not-stop", what));
                return self.broker(id).kill();
            }
            self.hold(POLL_INTERVAL)?;
        }
    }

    /// Ends every fault and waits until every broker serves.
    ///
    /// # Errors
    /// When one of them does not.
    pub(crate) fn heal(&mut self) -> Result<()> {
        self.network.heal()?;
        for broker in &mut self.brokers {
            broker.disk.set_faults(Faults::default());
            broker.set_clock(0)?;
            broker.resume()?;
            broker.start()?;
        }
        self.wait_until_ready()?;
        self.may_die.clear();
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        self.wait_until("every broker serves", READY_LIMIT, |cluster| {
            cluster.brokers.iter().all(Broker::is_ready)
        })
    }

    /// Waits until every replica is in sync.
    ///
    /// # Errors
    /// When one of them is not, in time.
    pub(crate) fn wait_until_in_sync(&mut self) -> Result<()> {
        let in_sync = |cluster: &Self| {
            cluster.admin.describe_cluster().is_ok_and(|cluster| {
                cluster.offline_partitions == 0 && cluster.under_replicated_partitions == 0
            })
        };
        let outcome = self.wait_until("every replica is in sync", IN_SYNC_LIMIT, in_sync);
        outcome.with_context(|| format!("{:?}", self.admin.describe_topics(&[])))
    }

    /// Adds what a nemesis found.
    pub(crate) fn add_anomaly(&mut self, invariant: &'static str, what: String) {
        println!("             {invariant}: {what}");
        self.anomalies.push(anomaly(invariant, what));
    }

    /// The memory of each broker at this moment.
    pub(crate) fn memory_bytes(&self) -> Vec<u64> {
        self.brokers.iter().map(Broker::memory_bytes).collect()
    }

    /// What brokers did by themselves since the last call, and the most memory that one had.
    pub(crate) fn take_anomalies(&mut self) -> (Vec<Anomaly>, u64) {
        let mut anomalies = std::mem::take(&mut self.anomalies);
        let memory_bytes = std::mem::take(&mut self.memory_bytes_max);
        if memory_bytes > MEMORY_BYTES_MAX {
            let what = format!("a broker had {} MiB of memory", memory_bytes >> 20);
            anomalies.push(anomaly("memory", what));
        }
        (anomalies, memory_bytes)
    }
}

fn common_settings(token_file: &Path) -> Vec<String> {
    let voter = |id| format!("{id}@{}:{RPC_PORT}", Host::Broker(id).address());
    let voters: Vec<_> = (0..VOTERS).map(voter).collect();
    vec![
        format!("controller.quorum.voters={}", voters.join(",")),
        format!("klamm.rpc.token.file={}", token_file.display()),
        "klamm.cluster.id=chaos".to_owned(),
        "default.replication.factor=3".to_owned(),
        "min.insync.replicas=2".to_owned(),
        "offsets.topic.replication.factor=3".to_owned(),
        "offsets.topic.num.partitions=5".to_owned(),
        "transaction.state.log.num.partitions=5".to_owned(),
        // Group offsets and transactions survive the loss of power of all brokers, too.
        "log.flush.interval.messages=1".to_owned(),
        format!(
            "replica.lag.time.max.ms={}",
            REPLICA_LAG_TIME_MAX.as_millis()
        ),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        "controlled.shutdown.timeout.ms=5000".to_owned(),
        "leader.imbalance.check.interval.seconds=5".to_owned(),
        "replica.high.watermark.checkpoint.interval.ms=1000".to_owned(),
        // Segments are closed under the faults.
        "log.segment.bytes=1048576".to_owned(),
        "auto.create.topics.enable=false".to_owned(),
    ]
}

fn anomaly(invariant: &'static str, what: String) -> Anomaly {
    Anomaly {
        invariant,
        at_us: now_us(),
        place: None,
        messages: Vec::new(),
        what,
    }
}
