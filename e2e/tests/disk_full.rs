//! A disk fills up under load and is freed again: nothing acknowledged is lost, reads go on, and no
//! broker is restarted. Mounts a small tmpfs, for which it has to run as root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, DevOptions, metric};
use klamm_e2e::load::Load;
use klamm_e2e::process::{Signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::{Running, Tool};
use tempfile::TempDir;

/// The broker whose disk is small.
const BROKER: u16 = 1;
const DISK_SIZE: &str = "size=96m";
const TOPIC: &str = "disk-full";
const PARTITIONS: usize = 6;
const MESSAGES_PER_SECOND: &str = "1000";
/// How long the disk stays full: long enough to leave the ISR.
const FULL_FOR: Duration = Duration::from_secs(12);
const LAST_ACKNOWLEDGEMENTS_LIMIT: Duration = Duration::from_secs(120);
/// Shows how many replicas of a broker could not write.
const METRIC: &str = "klamm_disk_full_replicas";

fn main() -> ExitCode {
    let mut cases = Cases::new("disk full");
    for brokers in [1, 3] {
        let name =
            format!("{brokers} brokers, a disk fills up: nothing lost, reads go on, no restart");
        cases.run(&name, || fill_under_load(brokers));
    }
    cases.finish(Ok(()))
}

/// A file system of its own, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        Tool::new("mount")
            .args(["-t", "tmpfs", "-o", DISK_SIZE, "tmpfs"])
            .args([path])
            .run()
            .context("can't mount a small disk; run as root")?;
        Ok(Self(path.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no space at all.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        for len in [1 << 20, 1 << 12, 1] {
            let zeros = vec![0; len];
            while file.write_all(&zeros).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a broker that hangs would hold it.
        let _ = Tool::new("umount").args(["-l"]).args([&self.0]).run();
    }
}

fn fill_under_load(brokers: u16) -> Result<()> {
    let directory = TempDir::new()?;
    let broker = BROKER.min(brokers - 1);
    let data = directory.path().join(format!("broker-{broker}/data"));
    let disk = SmallDisk::mount(&data)?;
    let cluster = DevCluster::start_with(DevOptions {
        nodes: brokers,
        data: Some(directory.path().to_owned()),
        ..DevOptions::default()
    })?;
    let outcome = fill_and_free(&cluster, broker, &disk);
    if outcome.is_err() {
        cluster.print_logs();
    }
    let stopped = cluster.stop();
    outcome?;
    stopped.map(drop)
}

fn fill_and_free(cluster: &DevCluster, broker: u16, disk: &SmallDisk) -> Result<()> {
    let client = franz_go(&cluster.bootstrap())?;
    client.create_topic(TOPIC, PARTITIONS, cluster.nodes().into())?;
    wait_until_in_sync(&client)?;
    let pid = cluster.broker_pid(broker)?;
    let full_replicas = || metric(cluster.http_address(broker), METRIC);
    let load = client.tool(&["load", TOPIC, &PARTITIONS.to_string(), MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
        load.stdout_lines() > 2_000
    })?;

    disk.fill()?;
    wait_until("the broker says that its disk is full", TIME_LIMIT, || {
        full_replicas().is_ok_and(|full| full > 0.0)
    })?;
    let refused = full_replicas()?;
    let before = acknowledged(&load)?;
    sleep(FULL_FOR);
    let read = client.tool(&["read", TOPIC]).run()?;
    let messages = read.stdout.lines().count();
    println!("    full: {refused} replicas refuse writes, {messages} messages are read");
    ensure!(
        messages >= before,
        "{before} were acknowledged, {messages} are read"
    );
    ensure!(cluster.is_ready(broker), "the broker does not serve");

    disk.free()?;
    wait_until("all replicas are written to again", TIME_LIMIT, || {
        full_replicas().is_ok_and(|full| full < 1.0)
    })?;
    wait_until_in_sync(&client)?;
    if cluster.broker_pid(broker)? != pid {
        bail!("the broker was restarted");
    }
    let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
    let load = Load::parse(&output.stdout)?;
    println!("    {} messages acknowledged", load.acknowledged());
    ensure!(
        load.acknowledged() > before,
        "nothing was acknowledged afterwards"
    );
    load.verify(&client.tool(&["read", TOPIC]).run()?.stdout)
}

fn acknowledged(load: &Running) -> Result<usize> {
    let stdout = load.stdout();
    let whole = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
    Ok(Load::parse(whole)?.acknowledged())
}

fn wait_until_in_sync(client: &Program) -> Result<()> {
    client.tool(&["wait-isr"]).time_limit(TIME_LIMIT).run()?;
    Ok(())
}
