//! Files of replicas are damaged, at rest and under a running broker: the replicas are copied anew,
//! nothing acknowledged is lost, and nothing damaged gets anywhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, DevOptions, metric};
use klamm_e2e::load::Load;
use klamm_e2e::process::{Signal, is_alive, wait_until};
use klamm_e2e::suite::TIME_LIMIT;

const BROKERS: u16 = 3;
/// The broker whose files are damaged while it is down.
const BROKER: u16 = 1;
const TOPIC: &str = "damage";
const PARTITIONS: usize = 7;
const MESSAGES_PER_SECOND: &str = "4000";
const MESSAGES_MIN: usize = 20_000;
/// Long enough to damage files meanwhile.
const RESTART_AFTER: &str = "6s";
/// Segments of a second, recovery points that follow at once, and a pass over all segments every second.
const OVERRIDES: [&str; 3] = [
    "log.roll.ms=1000",
    "replica.high.watermark.checkpoint.interval.ms=200",
    "klamm.log.scrub.bytes.per.second=268435456",
];

fn main() -> ExitCode {
    let mut cases = Cases::new("damage");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start_with(DevOptions {
        nodes: BROKERS,
        overrides: OVERRIDES.map(str::to_owned).into(),
        arguments: ["--restart-after", RESTART_AFTER].map(str::to_owned).into(),
        ..DevOptions::default()
    })?;
    let client = franz_go(&cluster.bootstrap())?;
    client.create_topic(TOPIC, PARTITIONS, BROKERS.into())?;
    wait_until_in_sync(&client)?;
    let load = produce(&client)?;
    let replicas = Replicas { cluster: &cluster };
    replicas.wait_until_equal("after the load")?;
    cases.run(
        "files that were damaged while a broker was down are copied anew or rebuilt",
        || at_rest(&replicas, &client, &load),
    );
    cases.run(
        "a leader's segment that is damaged under it is found, and another replica leads",
        || while_running(&replicas, &client, &load),
    );
    cases.run(
        "indexes and segments that are deleted under a running broker come back",
        || deleted_while_running(&replicas, &client, &load),
    );
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

/// Messages in several segments of every partition, all of them acknowledged.
fn produce(client: &Program) -> Result<Load> {
    let partitions = PARTITIONS.to_string();
    let load = client.tool(&["load", TOPIC, &partitions, MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
        load.stdout_lines() > MESSAGES_MIN
    })?;
    let output = load.stop(Signal::TERM, TIME_LIMIT)?;
    Load::parse(&output.stdout)
}

fn at_rest(replicas: &Replicas<'_>, client: &Program, load: &Load) -> Result<()> {
    let cluster = replicas.cluster;
    let before = replicas.contents(0)?;
    let pid = cluster.broker_pid(BROKER)?;
    cluster.kill(BROKER)?;
    wait_until("the broker is gone", TIME_LIMIT, || !is_alive(pid))?;

    flip(&replicas.segments(BROKER, 0)?[1])?;
    cut(&replicas.segments(BROKER, 1)?[1])?;
    fs::remove_file(&replicas.segments(BROKER, 2)?[1])?;
    fs::remove_dir_all(replicas.directory(BROKER, 3))?;
    flip(&replicas.directory(BROKER, 4).join("partition.metadata"))?;
    for path in files(&replicas.directory(BROKER, 5), "index")? {
        cut(&path)?;
    }
    for path in files(&replicas.directory(BROKER, 6), "timeindex")? {
        fs::remove_file(path)?;
    }
    flip(
        &replicas
            .directory(BROKER, 5)
            .join("leader-epoch-checkpoint"),
    )?;
    fs::remove_file(
        replicas
            .directory(BROKER, 6)
            .join("leader-epoch-checkpoint"),
    )?;
    for path in files(&replicas.directory(BROKER, 5), "snapshot")? {
        flip(&path)?;
    }
    ensure!(
        cluster.broker_pid(BROKER)? == pid,
        "the broker was started before its files were damaged: make {RESTART_AFTER} longer"
    );

    cluster.wait_until_restarted(BROKER, pid)?;
    replicas.wait_until_equal("after the damage at rest")?;
    wait_until_in_sync(client)?;
    replicas.wait_until_tidy()?;
    ensure!(replicas.contents(0)? == before, "other replicas changed");
    load.verify(&client.tool(&["read", TOPIC]).run()?.stdout)
}

fn while_running(replicas: &Replicas<'_>, client: &Program, load: &Load) -> Result<()> {
    let leader = leader(client, 0)?;
    let found = "klamm_scrub_damaged_segments_total";
    let address = replicas.cluster.http_address(leader);
    let before = metric(address, found)?;
    let segments = replicas.segments(leader, 0)?;
    flip(&segments[1])?;
    wait_until("the damage is found", TIME_LIMIT, || {
        metric(address, found).is_ok_and(|now| now > before)
    })?;
    wait_until("another replica leads", TIME_LIMIT, || {
        self::leader(client, 0).is_ok_and(|now| now != leader)
    })?;
    replicas.wait_until_equal("after the damage of a leader's segment")?;
    wait_until_in_sync(client)?;
    replicas.wait_until_tidy()?;
    load.verify(&client.tool(&["read", TOPIC]).run()?.stdout)
}

fn deleted_while_running(replicas: &Replicas<'_>, client: &Program, load: &Load) -> Result<()> {
    let leader = leader(client, 1)?;
    let address = replicas.cluster.http_address(leader);
    let rebuilt = "klamm_scrub_indexes_rebuilt_total";
    let before = metric(address, rebuilt)?;
    let index = replicas.segments(leader, 1)?[1].with_extension("index");
    fs::remove_file(&index)?;
    wait_until("the index is made anew", TIME_LIMIT, || {
        metric(address, rebuilt).is_ok_and(|now| now > before) && index.exists()
    })?;
    ensure!(self::leader(client, 1)? == leader, "an index cost a leader");

    fs::remove_file(&replicas.segments(leader, 1)?[1])?;
    replicas.wait_until_equal("after a segment was deleted")?;
    wait_until_in_sync(client)?;
    replicas.wait_until_tidy()?;
    load.verify(&client.tool(&["read", TOPIC]).run()?.stdout)
}

fn leader(client: &Program, partition: i32) -> Result<u16> {
    let states = client.describe_topic(TOPIC)?;
    let state = states.iter().find(|state| state.partition == partition);
    Ok(u16::try_from(state.context("no such partition")?.leader)?)
}

fn wait_until_in_sync(client: &Program) -> Result<()> {
    client.tool(&["wait-isr"]).time_limit(TIME_LIMIT).run()?;
    Ok(())
}

/// The topic's files on all brokers.
struct Replicas<'a> {
    cluster: &'a DevCluster,
}

impl Replicas<'_> {
    fn directory(&self, broker: u16, partition: usize) -> PathBuf {
        let data = self.cluster.data_dir(broker);
        data.join(format!("{TOPIC}-{partition}"))
    }

    fn segments(&self, broker: u16, partition: usize) -> Result<Vec<PathBuf>> {
        let segments = files(&self.directory(broker, partition), "log")?;
        ensure!(segments.len() > 2, "only {} segments", segments.len());
        Ok(segments)
    }

    /// The records of every partition.
    fn contents(&self, broker: u16) -> Result<Vec<Vec<u8>>> {
        let content = |partition| {
            let segments = files(&self.directory(broker, partition), "log")?;
            let segments = segments.iter().map(fs::read);
            Ok(segments.collect::<Result<Vec<_>, _>>()?.concat())
        };
        (0..PARTITIONS).map(content).collect()
    }

    fn wait_until_equal(&self, when: &str) -> Result<()> {
        let equal = || -> Result<bool> {
            let first = self.contents(0)?;
            for broker in 1..BROKERS {
                if self.contents(broker)? != first {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let what = format!("all replicas have the same records {when}");
        wait_until(&what, TIME_LIMIT, || equal().unwrap_or(false))
    }

    /// Nothing that was set aside is left, and nobody misses a log.
    fn wait_until_tidy(&self) -> Result<()> {
        let metrics = ["klamm_quarantined_logs", "klamm_damaged_replicas"];
        let is_tidy = |broker| {
            let address = self.cluster.http_address(broker);
            let mut values = metrics.iter().map(|name| metric(address, name));
            values.all(|value| value.is_ok_and(|value| value < 1.0))
                && fs::read_dir(self.cluster.data_dir(broker)).is_ok_and(|mut entries| {
                    !entries.any(|entry| entry.is_ok_and(|entry| is_damaged(&entry.path())))
                })
        };
        wait_until("damaged logs are removed", TIME_LIMIT, || {
            (0..BROKERS).all(is_tidy)
        })
    }
}

fn is_damaged(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-damaged")
}

/// Files of the kind in order of their names.
fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Flips a bit in the middle of the file.
fn flip(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().read(true).write(true).open(path)?;
    let at = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)?;
    Ok(())
}

/// Cuts the file in the middle.
fn cut(path: &Path) -> Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    file.set_len(file.metadata()?.len() / 2)?;
    Ok(())
}
