//! Brokers with two log directories, one of them on a disk of its own that fails under load. Needs
//! root, for the disk: a file that is mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Java, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, DevOptions};
use klamm_e2e::load::Load;
use klamm_e2e::process::{Signal, is_alive, wait_until};
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::{Running, Tool};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const BROKERS: u16 = 3;
/// The broker with the disk that fails.
const BROKER: u16 = 1;
const TOPIC: &str = "log-dirs";
const MOVED_TOPIC: &str = "moved";
const PARTITIONS: usize = 12;
const MESSAGES_PER_SECOND: &str = "2000";
const DISK_BYTES: u64 = 256 << 20;
/// Bytes per second that are copied, more than the load brings.
const THROTTLE: &str = "2000000";
const MOVE_LIMIT: Duration = Duration::from_secs(180);
const LAST_ACKNOWLEDGEMENTS_LIMIT: Duration = Duration::from_secs(60);
/// Long enough to mount the disk again.
const RESTART_AFTER: &str = "5s";

fn main() -> ExitCode {
    let mut cases = Cases::new("log_dirs");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let root = tempfile::Builder::new().prefix("klamm-e2e-").tempdir()?;
    let data = root.path().join("data");
    let disk = Disk::mount(root.path(), &data.join(format!("broker-{BROKER}/data-1")))?;
    let cluster = DevCluster::start_with(DevOptions {
        nodes: BROKERS,
        arguments: ["--log-dirs", "2", "--restart-after", RESTART_AFTER]
            .map(str::to_owned)
            .into(),
        data: Some(data),
        ..DevOptions::default()
    })?;
    let client = franz_go(&cluster.bootstrap())?;
    client.create_topic(TOPIC, PARTITIONS, BROKERS.into())?;
    wait_until_in_sync(&client)?;
    cases.run("kafka-log-dirs tells what is where", || {
        described(&cluster, &disk)
    });
    cases.run(
        "replicas change their directories under load, by Kafka's tool: nothing lost",
        || moved_under_load(&cluster, &client),
    );
    cases.run(
        "a disk that fails takes its own replicas only, and nothing acknowledged is lost",
        || failing_under_load(&cluster, &client, &disk),
    );
    cases.run("a repaired disk comes back with a restart", || {
        repaired(&cluster, &client, &disk)
    });
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

/// What Kafka's tool prints about all brokers.
fn log_dirs(java: &Java, topic: &str) -> Result<Value> {
    let output = java
        .tool("LogDirsCommand")
        .args(["--describe", "--topic-list", topic])
        .run()?
        .stdout;
    let line = output.lines().find(|line| line.starts_with('{'));
    Ok(serde_json::from_str(line.context("no JSON printed")?)?)
}

fn described(cluster: &DevCluster, disk: &Disk) -> Result<()> {
    let told = log_dirs(&Java::new(&cluster.bootstrap())?, TOPIC)?;
    let brokers = told["brokers"].as_array().context("no brokers")?;
    ensure!(brokers.len() == usize::from(BROKERS), "{told}");
    for broker in brokers {
        let dirs = broker["logDirs"].as_array().context("no logDirs")?;
        let replicas: Vec<_> = dirs
            .iter()
            .map(|dir| dir["partitions"].as_array().map_or(0, Vec::len))
            .collect();
        ensure!(replicas == [PARTITIONS / 2; 2], "not evenly spread: {told}");
        ensure!(dirs.iter().all(|dir| dir["error"].is_null()), "{told}");
    }
    let path = disk.path.display().to_string();
    ensure!(told.to_string().contains(&path), "no {path} in {told}");
    Ok(())
}

/// The log directory of each replica of a broker; `false` for a copy that is under way.
type Places = BTreeMap<(String, bool), String>;

fn places(java: &Java, broker: u16) -> Result<Places> {
    let told = log_dirs(java, MOVED_TOPIC)?;
    let mut brokers = told["brokers"].as_array().into_iter().flatten();
    let told = brokers.find(|told| told["broker"] == broker);
    let dirs = told.context("the broker is missing")?["logDirs"].as_array();
    let mut places = Places::new();
    for dir in dirs.into_iter().flatten() {
        let path = dir["logDir"].as_str().context("no path")?;
        for replica in dir["partitions"].as_array().into_iter().flatten() {
            let name = replica["partition"].as_str().context("no name")?;
            let is_current = replica["isFuture"] == false;
            places.insert((name.to_owned(), is_current), path.to_owned());
        }
    }
    Ok(places)
}

/// Every replica of the broker changes places with those in its other directory.
fn moved_under_load(cluster: &DevCluster, client: &Program) -> Result<()> {
    client.create_topic(MOVED_TOPIC, PARTITIONS, BROKERS.into())?;
    wait_until_in_sync(client)?;
    let java = Java::new(&cluster.bootstrap())?;
    let before = places(&java, BROKER)?;
    let dirs: BTreeSet<_> = before.values().cloned().collect();
    let other = |path: &String| dirs.iter().find(|dir| *dir != path).cloned();
    let partitions = PARTITIONS.to_string();
    let load = client.tool(&["load", MOVED_TOPIC, &partitions, MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    wait_for_acknowledgements(&mut load)?;

    let mut wanted = Vec::new();
    for state in client.describe_topic(MOVED_TOPIC)? {
        let name = format!("{MOVED_TOPIC}-{}", state.partition);
        let target = before.get(&(name, true)).and_then(other);
        let target = target.context("the broker has two directories")?;
        let of_broker = |id: &i32| match *id == i32::from(BROKER) {
            true => target.clone(),
            false => "any".to_owned(),
        };
        let log_dirs: Vec<_> = state.replicas.iter().map(of_broker).collect();
        wanted.push(json!({
            "topic": MOVED_TOPIC, "partition": state.partition,
            "replicas": state.replicas, "log_dirs": log_dirs,
        }));
    }
    let file = NamedTempFile::new()?;
    let plan = json!({"version": 1, "partitions": wanted}).to_string();
    std::fs::write(file.path(), plan)?;
    let tool = || {
        let tool = java.tool("reassign.ReassignPartitionsCommand");
        let tool = tool.args(["--reassignment-json-file"]).args([file.path()]);
        tool.time_limit(TIME_LIMIT)
    };
    tool()
        .args(["--execute", "--replica-alter-log-dirs-throttle", THROTTLE])
        .run()?;
    let mut told = String::new();
    let done = wait_until("the replicas have moved", MOVE_LIMIT, || {
        told = tool()
            .args(["--verify"])
            .run()
            .map_or_else(|error| error.to_string(), |output| output.stdout);
        let complete = told
            .matches(&format!("-{BROKER} completed successfully"))
            .count();
        complete == PARTITIONS
    });
    done.with_context(|| told.clone())?;
    wait_for_acknowledgements(&mut load)?;
    let expected: Places = before
        .iter()
        .filter_map(|(name, path)| Some((name.clone(), other(path)?)))
        .collect();
    let after = places(&java, BROKER)?;
    ensure!(after == expected, "{after:?} instead of {expected:?}");

    let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
    let load = Load::parse(&output.stdout)?;
    println!("    {} messages acknowledged", load.acknowledged());
    load.verify(&client.tool(&["read", MOVED_TOPIC]).run()?.stdout)
}

fn failing_under_load(cluster: &DevCluster, client: &Program, disk: &Disk) -> Result<()> {
    let partitions = PARTITIONS.to_string();
    let load = client.tool(&["load", TOPIC, &partitions, MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    wait_for_acknowledgements(&mut load)?;
    let pid = cluster.broker_pid(BROKER)?;

    let failed_at = Instant::now();
    disk.fail()?;
    let on_disk = PARTITIONS / 2;
    wait_until("the failed replicas are out of sync", TIME_LIMIT, || {
        out_of_sync(client).is_ok_and(|count| count == on_disk)
    })?;
    println!("    led elsewhere after {:.2?}", failed_at.elapsed());
    wait_for_acknowledgements(&mut load)?;
    ensure!(out_of_sync(client)? == on_disk, "others left the ISR, too");
    let led = client.describe_topic(TOPIC)?;
    let led = led.iter().filter(|state| state.leader == i32::from(BROKER));
    println!(
        "    {} partitions are led by the broker all the same",
        led.count()
    );
    ensure!(is_alive(pid), "the broker ended");
    ensure!(cluster.is_ready(BROKER), "the broker does not serve");

    let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
    let load = Load::parse(&output.stdout)?;
    println!("    {} messages acknowledged", load.acknowledged());
    load.verify(&client.tool(&["read", TOPIC]).run()?.stdout)
}

fn repaired(cluster: &DevCluster, client: &Program, disk: &Disk) -> Result<()> {
    let pid = cluster.broker_pid(BROKER)?;
    cluster.kill(BROKER)?;
    wait_until("the broker is gone", TIME_LIMIT, || !is_alive(pid))?;
    disk.repair()?;
    cluster.wait_until_restarted(BROKER, pid)?;
    wait_until_in_sync(client)?;
    ensure!(out_of_sync(client)? == 0, "replicas stay out of sync");
    Ok(())
}

/// Partitions of which the broker's replica is not in sync.
fn out_of_sync(client: &Program) -> Result<usize> {
    let states = client.describe_topic(TOPIC)?;
    let in_sync = |isr: &[i32]| isr.contains(&i32::from(BROKER));
    Ok(states.iter().filter(|state| !in_sync(&state.isr)).count())
}

fn wait_until_in_sync(client: &Program) -> Result<()> {
    client.tool(&["wait-isr"]).time_limit(TIME_LIMIT).run()?;
    Ok(())
}

/// Waits until thousands more are acknowledged, on every partition.
fn wait_for_acknowledgements(load: &mut Running) -> Result<()> {
    let before = load.stdout_lines();
    load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
        load.stdout_lines() > before + 4_000
    })
}

/// A file system in a file.
struct Disk {
    image: PathBuf,
    path: PathBuf,
}

impl Disk {
    fn mount(root: &Path, path: &Path) -> Result<Self> {
        let disk = Self {
            image: root.join("disk"),
            path: path.to_owned(),
        };
        std::fs::create_dir_all(path)?;
        File::create(&disk.image)?.set_len(DISK_BYTES)?;
        Tool::new("mkfs.ext4")
            .args(["-q", "-F"])
            .args([&disk.image])
            .run()?;
        disk.mount_image()?;
        Ok(disk)
    }

    fn mount_image(&self) -> Result<()> {
        let mount = Tool::new("mount").args(["-o", "loop"]);
        mount.args([&self.image, &self.path]).run()?;
        Ok(())
    }

    /// Every access fails from now on, as when ext4 finds its disk broken.
    fn fail(&self) -> Result<()> {
        const EXT4_SHUTDOWN_WITHOUT_FLUSH: &str = "import fcntl, os, struct, sys; \
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        let python = Tool::new("python3").args(["-c", EXT4_SHUTDOWN_WITHOUT_FLUSH]);
        python.args([&self.path]).run()?;
        Ok(())
    }

    fn repair(&self) -> Result<()> {
        // The last thread of a killed process may still hold files.
        wait_until("the disk is unmounted", TIME_LIMIT, || {
            Tool::new("umount").args([&self.path]).run().is_ok()
        })?;
        self.mount_image()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What can't be unmounted is busy still: then it goes with the last process that uses it.
        let _ = Tool::new("umount")
            .args(["--lazy"])
            .args([&self.path])
            .run();
    }
}
