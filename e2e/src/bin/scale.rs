//! What many partitions cost: `scale [--topics N] [--partitions N]`. Three brokers, each with a
//! replica of every partition; they are created, left alone, put under a light load, killed,
//! stopped and started. The broker to measure is that of `KLAMM_BROKER_BIN`; `cargo xtask scale`
//! builds it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use klamm_e2e::client::{Admin as _, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, DevOptions, metric};
use klamm_e2e::process::{
    Signal, anonymous_memory_bytes, cpu_time, is_alive, mappings, open_files, send_signal,
    wait_until,
};
use tempfile::TempDir;

const BROKERS: u16 = 3;
const TOPICS_DEFAULT: usize = 100;
const PARTITIONS_DEFAULT: usize = 100;
const SETTLE_LIMIT: Duration = Duration::from_secs(600);
const OBSERVED: Duration = Duration::from_secs(30);
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
const MESSAGES_PER_SECOND: &str = "500";
/// Longer than the others take to lead.
const RESTART_AFTER: &str = "20s";
/// Offsets of groups are no part of what is measured.
const OVERRIDES: [&str; 2] = [
    "offsets.topic.num.partitions=1",
    "auto.leader.rebalance.enable=false",
];

fn main() -> Result<()> {
    let size = Size::from_arguments()?;
    let data = tempfile::Builder::new().prefix("klamm-scale-").tempdir()?;
    let bench = Bench::start(&data, size)?;
    bench.create()?;
    bench.report("idle")?;
    bench.under_load()?;
    for (what, target) in [("another broker", 1), ("the controller", 0)] {
        bench.kill(what, target)?;
    }
    bench.stop_all()?;
    bench.report("idle after a restart")?;
    bench.kill_all()?;
    bench.metadata_sizes()
}

#[derive(Clone, Copy)]
struct Size {
    topics: usize,
    partitions: usize,
}

impl Size {
    fn from_arguments() -> Result<Self> {
        let (mut topics, mut partitions) = (TOPICS_DEFAULT, PARTITIONS_DEFAULT);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let value = arguments.next().and_then(|value| value.parse().ok());
            match (argument.as_str(), value) {
                ("--topics", Some(value)) => topics = value,
                ("--partitions", Some(value)) => partitions = value,
                _ => bail!("usage: scale [--topics N] [--partitions N]"),
            }
        }
        ensure!(topics > 0 && partitions > 0, "give numbers above 0");
        Ok(Self { topics, partitions })
    }

    fn total(self) -> usize {
        self.topics * self.partitions
    }
}

struct Bench {
    cluster: DevCluster,
    client: Program,
    size: Size,
}

impl Bench {
    fn start(data: &TempDir, size: Size) -> Result<Self> {
        let cluster = DevCluster::start_with(DevOptions {
            nodes: BROKERS,
            overrides: OVERRIDES.map(str::to_owned).to_vec(),
            arguments: vec!["--restart-after".to_owned(), RESTART_AFTER.to_owned()],
            data: Some(data.path().join("data")),
            ..DevOptions::default()
        })?;
        let client = franz_go(&cluster.bootstrap())?;
        Ok(Self {
            cluster,
            client,
            size,
        })
    }

    fn metric(&self, id: u16, name: &str) -> Option<usize> {
        let value = metric(self.cluster.http_address(id), name).ok()?;
        Some(value as usize)
    }

    /// Brokers among `ids` lead all partitions, and say so themselves.
    fn lead_all(&self, ids: &[u16]) -> bool {
        let led = ids.iter().map(|id| self.metric(*id, "klamm_leaders"));
        led.sum::<Option<usize>>() >= Some(self.size.total())
    }

    fn is_settled(&self) -> bool {
        let value = |name| self.metric(0, name);
        value("klamm_cluster_active_brokers") == Some(usize::from(BROKERS))
            && value("klamm_cluster_partitions") >= Some(self.size.total())
            && value("klamm_cluster_under_replicated_partitions") == Some(0)
            && self.lead_all(&[0, 1, 2])
    }

    fn wait_until_settled(&self) -> Result<()> {
        wait_until("every replica is in sync", SETTLE_LIMIT, || {
            self.is_settled()
        })
    }

    fn create(&self) -> Result<()> {
        let start = Instant::now();
        for topic in 0..self.size.topics {
            let name = format!("scale-{topic}");
            self.client
                .create_topic(&name, self.size.partitions, BROKERS.into())?;
        }
        println!("create: answered after {:.1?}", start.elapsed());
        self.wait_until_settled()?;
        println!(
            "create: every replica in sync after {:.1?}",
            start.elapsed()
        );
        Ok(())
    }

    /// Processor time, memory and files of every broker while nothing is asked of them but what
    /// runs already.
    fn report(&self, what: &str) -> Result<()> {
        let pids = self.pids()?;
        let cpu = || {
            let times = pids.iter().map(|pid| cpu_time(*pid));
            times.collect::<Result<Vec<_>>>()
        };
        let before = cpu()?;
        let watch = Watch::start(&self.cluster);
        sleep(OBSERVED);
        let unwell = watch.stop()?;
        for ((pid, before), after) in pids.iter().zip(before).zip(cpu()?) {
            let share = (after - before).as_secs_f64() / OBSERVED.as_secs_f64();
            println!(
                "{what}: {:.1} % of a core, {} MiB, {} files, {} mappings",
                share * 100.0,
                anonymous_memory_bytes(*pid)? >> 20,
                open_files(*pid)?,
                mappings(*pid)?,
            );
        }
        println!("{what}: {unwell} looks at which a broker was fenced or a replica out of sync");
        Ok(())
    }

    fn under_load(&self) -> Result<()> {
        let partitions = self.size.partitions.to_string();
        let load = ["load", "scale-0", &partitions, MESSAGES_PER_SECOND];
        let mut load = self.client.tool(&load).spawn()?;
        load.wait_for("messages are acknowledged", SETTLE_LIMIT, |load| {
            load.stdout_lines() > 1
        })?;
        self.report(&format!("{MESSAGES_PER_SECOND} messages a second"))?;
        load.stop(Signal::TERM, SETTLE_LIMIT)?;
        Ok(())
    }

    /// kill -9 of the broker `after` the controller.
    fn kill(&self, what: &str, after: u16) -> Result<()> {
        let controller = self.metric(0, "klamm_cluster_controller_id");
        let controller = u16::try_from(controller.context("no controller")?)?;
        let target = (controller + after) % BROKERS;
        let others: Vec<u16> = (0..BROKERS).filter(|id| *id != target).collect();
        let pid = self.cluster.broker_pid(target)?;
        let start = Instant::now();
        send_signal(pid, Signal::KILL)?;
        wait_until("the others lead everything", SETTLE_LIMIT, || {
            self.lead_all(&others)
        })?;
        println!(
            "kill -9 of {what}: all led elsewhere after {:.2?}",
            start.elapsed()
        );
        wait_until("the broker is started", SETTLE_LIMIT, || {
            self.cluster.broker_pid(target).is_ok_and(|now| now != pid)
        })?;
        self.time_start(&format!("start after kill -9 of {what}"), &[target])
    }

    /// Until brokers serve, and until every replica is in sync.
    fn time_start(&self, what: &str, ids: &[u16]) -> Result<()> {
        let start = Instant::now();
        wait_until("the brokers serve", SETTLE_LIMIT, || {
            ids.iter().all(|id| self.cluster.is_ready(*id))
        })?;
        println!("{what}: serving after {:.2?}", start.elapsed());
        self.wait_until_settled()?;
        println!(
            "{what}: every replica in sync after {:.2?}",
            start.elapsed()
        );
        Ok(())
    }

    /// SIGTERM of all; `dev` starts them again.
    fn stop_all(&self) -> Result<()> {
        let (start, before) = (Instant::now(), self.pids()?);
        for pid in &before {
            send_signal(*pid, Signal::TERM)?;
        }
        wait_until("all brokers have ended", SETTLE_LIMIT, || {
            !before.iter().any(|pid| is_alive(*pid))
        })?;
        println!("stop of all: ended after {:.2?}", start.elapsed());
        self.time_start_of_all("start after a stop of all", &before)
    }

    fn kill_all(&self) -> Result<()> {
        let before = self.pids()?;
        for pid in &before {
            send_signal(*pid, Signal::KILL)?;
        }
        self.time_start_of_all("start after kill -9 of all", &before)
    }

    fn time_start_of_all(&self, what: &str, before: &[u32]) -> Result<()> {
        wait_until("all brokers are started", SETTLE_LIMIT, || {
            let now = self.pids().unwrap_or_default();
            now.len() == before.len() && !now.iter().any(|pid| before.contains(pid))
        })?;
        self.time_start(what, &[0, 1, 2])
    }

    fn pids(&self) -> Result<Vec<u32>> {
        (0..BROKERS).map(|id| self.cluster.broker_pid(id)).collect()
    }

    fn metadata_sizes(&self) -> Result<()> {
        for id in 0..BROKERS {
            let directory = self.cluster.data_dir(id).join("__cluster_metadata-0");
            let (mut log, mut snapshot) = (0, 0);
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                let bytes = entry.metadata()?.len();
                match name.to_string_lossy().rsplit_once('.') {
                    Some((_, "log")) => log += bytes,
                    Some((_, "checkpoint")) => snapshot += bytes,
                    _ => {}
                }
            }
            println!("broker {id}: metadata log {log} bytes, snapshot {snapshot} bytes");
        }
        Ok(())
    }
}

/// Looks at the brokers all the time: none may be fenced and no replica fall out of sync.
struct Watch {
    stopped: Arc<AtomicBool>,
    unwell: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start(cluster: &DevCluster) -> Self {
        let (stopped, unwell) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stop, count, address) = (
            Arc::clone(&stopped),
            Arc::clone(&unwell),
            cluster.http_address(0),
        );
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let active = metric(address, "klamm_cluster_active_brokers").ok();
                let behind = metric(address, "klamm_cluster_under_replicated_partitions").ok();
                if active != Some(f64::from(BROKERS)) || behind != Some(0.0) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                sleep(WATCH_INTERVAL);
            }
        });
        Self {
            stopped,
            unwell,
            thread,
        }
    }

    fn stop(self) -> Result<usize> {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watch has panicked")?;
        Ok(self.unwell.load(Ordering::Relaxed))
    }
}
