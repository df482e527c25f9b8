//! Replicas are moved, leaders elected and records deleted with Kafka's own tools, and the disks
//! are looked at before and after.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Java, Kcat, PartitionState, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, metric};
use klamm_e2e::kubernetes::Metadata;
use klamm_e2e::load::Load;
use klamm_e2e::process::{Signal, pause, send_signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::Running;
use tempfile::NamedTempFile;

const BROKERS: u16 = 4;
/// Leaders move only when the tests ask for it; small segments show what is deleted.
const OVERRIDES: [&str; 2] = [
    "auto.leader.rebalance.enable=false",
    "log.segment.bytes=1048576",
];
const RECORD_BYTES: usize = 1_000;
const MESSAGES_PER_SECOND: &str = "2000";
const LAST_ACKNOWLEDGEMENTS_LIMIT: Duration = Duration::from_secs(120);
const REASSIGNMENT_LIMIT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let mut cases = Cases::new("reassign");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(BROKERS, &OVERRIDES)?;
    let bootstrap = cluster.bootstrap();
    let bench = Bench {
        java: Java::new(&bootstrap)?,
        go: franz_go(&bootstrap)?,
        cluster,
    };
    cases.run("replicas move under load, throttled: nothing lost", || {
        move_under_load(&bench)
    });
    cases.run("a reassignment is cancelled, what it copied goes", || {
        cancel(&bench)
    });
    cases.run(
        "replication factor 1 to 3 to 2 under load: nothing lost",
        || replication_factor(&bench),
    );
    cases.run(
        "preferred leaders are elected, or it is said why not",
        || elect(&bench),
    );
    cases.run(
        "records are deleted on every replica, and stay deleted",
        || delete_records(&bench),
    );
    if cases.any_failed() {
        bench.cluster.print_logs();
    }
    Ok(())
}

struct Bench {
    cluster: DevCluster,
    java: Java,
    go: Program,
}

/// A partition and the brokers that shall have it.
type Target<'a> = (&'a str, i32, &'a [i32]);

impl Bench {
    /// `assignment` in the notation of Kafka's tool: `0:1:2,1:2:3`.
    fn create(&self, topic: &str, assignment: &str, configs: &[&str]) -> Result<()> {
        let mut tool = self
            .java
            .tool("TopicCommand")
            .args(["--create", "--topic", topic])
            .args(["--replica-assignment", assignment]);
        for config in configs {
            tool = tool.args(["--config", config]);
        }
        tool.run()?;
        Ok(())
    }

    fn fill(&self, topic: &str, records: usize) -> Result<()> {
        self.java
            .class("ProducerPerformance")
            .args(["--topic", topic, "--num-records", &records.to_string()])
            .args(["--record-size", &RECORD_BYTES.to_string()])
            .args(["--throughput", "-1", "--producer-props", "acks=all"])
            .args(["batch.size=16384", "linger.ms=5"])
            .args([format!("bootstrap.servers={}", self.java.bootstrap())])
            .run()?;
        Ok(())
    }

    fn start_load(&self, topic: &str, partitions: usize) -> Result<Running> {
        let count = partitions.to_string();
        let mut load = self
            .go
            .tool(&["load", topic, &count, MESSAGES_PER_SECOND])
            .spawn()?;
        load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
            load.stdout_lines() > partitions
        })?;
        Ok(load)
    }

    /// Stops the load and checks that the topic has all that was acknowledged, once and in order.
    fn verify_load(&self, mut load: Running, topic: &str) -> Result<()> {
        let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
        let load = Load::parse(&output.stdout)?;
        println!("    {} messages acknowledged", load.acknowledged());
        load.verify(&self.go.tool(&["read", topic]).run()?.stdout)
    }

    fn reassign(&self, targets: &[Target<'_>], args: &[&str]) -> Result<String> {
        let file = json_file(&reassignment(targets))?;
        let tool = self
            .java
            .tool("reassign.ReassignPartitionsCommand")
            .args(["--reassignment-json-file"])
            .args([file.path()])
            .args(args);
        Ok(tool.run()?.stdout)
    }

    /// Until the tool says that it is complete; by that it takes away the throttle.
    fn wait_until_reassigned(&self, targets: &[Target<'_>]) -> Result<()> {
        let mut last = String::new();
        let complete = wait_until("the reassignment is complete", REASSIGNMENT_LIMIT, || {
            last = self
                .reassign(targets, &["--verify"])
                .unwrap_or_else(|error| format!("{error:#}"));
            targets.iter().all(|(topic, partition, _)| {
                last.contains(&format!(
                    "Reassignment of partition {topic}-{partition} is completed."
                ))
            })
        });
        complete.context(last)
    }

    fn partition(&self, topic: &str, partition: i32) -> Result<PartitionState> {
        let partitions = self.java.describe_topic(topic)?;
        let found = partitions.into_iter().find(|p| p.partition == partition);
        found.with_context(|| format!("no partition {topic}-{partition}"))
    }

    fn log_dir(&self, broker: u16, topic: &str, partition: i32) -> PathBuf {
        self.cluster
            .data_dir(broker)
            .join(format!("{topic}-{partition}"))
    }

    /// The brokers whose disks have the partition.
    fn hosts(&self, topic: &str, partition: i32) -> Vec<i32> {
        let brokers = 0..BROKERS;
        brokers
            .filter(|id| self.log_dir(*id, topic, partition).is_dir())
            .map(i32::from)
            .collect()
    }

    /// Metadata, and after a moment the disks, have the partitions where they shall be.
    fn check_placed(&self, targets: &[Target<'_>]) -> Result<()> {
        for (topic, partition, target) in targets {
            let state = self.partition(topic, *partition)?;
            ensure!(state.replicas == *target, "{topic}: {state:?}");
            let mut expected = target.to_vec();
            expected.sort_unstable();
            let what = format!("{topic}-{partition} is on the disks of {expected:?}");
            wait_until(&what, TIME_LIMIT, || {
                self.hosts(topic, *partition) == expected
            })?;
        }
        Ok(())
    }
}

fn reassignment(targets: &[Target<'_>]) -> String {
    let partitions: Vec<_> = targets
        .iter()
        .map(|(topic, partition, replicas)| {
            format!(r#"{{"topic":"{topic}","partition":{partition},"replicas":{replicas:?}}}"#)
        })
        .collect();
    format!(r#"{{"version":1,"partitions":[{}]}}"#, partitions.join(","))
}

fn json_file(text: &str) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    Ok(file)
}

fn move_under_load(bench: &Bench) -> Result<()> {
    const RECORDS: usize = 30_000;
    const THROTTLE: usize = 2_000_000;
    bench.create("load", "0:1:2,1:2:3,2:3:0,3:0:1", &[])?;
    bench.create("bulk", "0:1:2,1:2:0", &[])?;
    bench.fill("bulk", RECORDS)?;
    let load = bench.start_load("load", 4)?;
    let targets: &[Target<'_>] = &[
        ("load", 0, &[1, 2, 3]),
        ("load", 1, &[0, 3, 1]),
        ("load", 2, &[1, 0, 2]),
        ("load", 3, &[2, 1, 3]),
        ("bulk", 0, &[3, 1, 2]),
        ("bulk", 1, &[1, 2, 3]),
    ];
    let start = Instant::now();
    let throttle = THROTTLE.to_string();
    bench.reassign(targets, &["--execute", "--throttle", &throttle])?;
    let reassigning = metric(
        bench.cluster.http_address(0),
        "klamm_cluster_reassigning_partitions",
    )?;
    ensure!(reassigning > 0.0, "complete in spite of the throttle");
    wait_until(
        "broker 3 tells what it still has to copy",
        TIME_LIMIT,
        || {
            let address = bench.cluster.http_address(3);
            let lag = metric(address, "klamm_adding_replicas_lag_offsets");
            lag.is_ok_and(|lag| lag > 0.0)
        },
    )?;
    bench.wait_until_reassigned(targets)?;
    let taken = start.elapsed();
    // Broker 3 copies all of it; a second's worth may come as a burst.
    let least = Duration::from_secs((RECORDS * RECORD_BYTES / THROTTLE - 2) as u64);
    println!("    30 MB at 2 MB/s: {:.1} s", taken.as_secs_f64());
    ensure!(taken >= least, "faster than the throttle: {taken:?}");
    bench.verify_load(load, "load")?;
    bench.check_placed(targets)?;
    let described = bench
        .java
        .tool("TopicCommand")
        .args(["--describe", "--topic", "bulk"])
        .run()?;
    ensure!(
        !described.stdout.contains("throttled"),
        "the throttle stays: {}",
        described.stdout
    );
    Ok(())
}

fn cancel(bench: &Bench) -> Result<()> {
    bench.create("cancelled", "0:1", &[])?;
    bench.fill("cancelled", 8_000)?;
    let targets: &[Target<'_>] = &[("cancelled", 0, &[2, 3])];
    bench.reassign(targets, &["--execute", "--throttle", "1000"])?;
    let verified = bench.reassign(targets, &["--verify"])?;
    ensure!(
        verified.contains("Reassignment of partition cancelled-0 is still in progress."),
        "{verified}"
    );
    wait_until("the new replicas are on their disks", TIME_LIMIT, || {
        bench.hosts("cancelled", 0) == [0, 1, 2, 3]
    })?;
    let cancelled = bench.reassign(targets, &["--cancel"])?;
    ensure!(
        cancelled.contains("Successfully cancelled partition reassignment for: cancelled-0"),
        "{cancelled}"
    );
    bench.check_placed(&[("cancelled", 0, &[0, 1])])
}

fn replication_factor(bench: &Bench) -> Result<()> {
    let topic = "factor";
    bench.create(topic, "0,1", &["min.insync.replicas=2"])?;
    let load = bench.start_load(topic, 2)?;
    let steps: [&[Target<'_>]; 2] = [
        &[(topic, 0, &[0, 1, 2]), (topic, 1, &[3, 1, 2])],
        &[(topic, 0, &[2, 1]), (topic, 1, &[1, 3])],
    ];
    for targets in steps {
        bench.reassign(targets, &["--execute"])?;
        bench.wait_until_reassigned(targets)?;
        bench.check_placed(targets)?;
    }
    bench.verify_load(load, topic)
}

fn elect(bench: &Bench) -> Result<()> {
    let topic = "elected";
    bench.create(topic, "0:1:2,0:2:3", &[])?;
    // Broker 0 is paused: whoever asks it waits for half a minute.
    let another = bench.cluster.client_address(1).to_string();
    let java = Java::new(&another)?;
    let elect = |election_type: &str| {
        java.tool("LeaderElectionCommand")
            .args(["--election-type", election_type])
            .args(["--topic", topic, "--partition", "0"])
            .run()
    };
    let leader = || {
        let metadata = Metadata::read(&Kcat::new(&another))?;
        let leader = metadata.leaders().get(&(topic, 0)).copied();
        leader.with_context(|| format!("no partition {topic}-0"))
    };
    let pid = bench.cluster.broker_pid(0)?;
    pause(pid)?;
    let moved = wait_until("the paused leader is replaced", TIME_LIMIT, || {
        leader().is_ok_and(|leader| leader != 0)
    });
    let refused = elect("preferred");
    send_signal(pid, Signal::CONT)?;
    moved?;
    let refusal = refused.err().context("a paused broker was elected")?;
    ensure!(
        format!("{refusal:#}").contains("PreferredLeaderNotAvailable"),
        "{refusal:#}"
    );
    bench.go.tool(&["wait-isr"]).time_limit(TIME_LIMIT).run()?;
    let elected = elect("preferred")?.stdout;
    ensure!(
        elected.contains("Successfully completed leader election (PREFERRED)"),
        "{elected}"
    );
    ensure!(leader()? == 0, "leader {}", leader()?);
    for election_type in ["preferred", "unclean"] {
        let again = elect(election_type)?.stdout;
        ensure!(again.contains("Valid replica already elected"), "{again}");
    }
    let all = bench
        .java
        .tool("LeaderElectionCommand")
        .args(["--election-type", "preferred", "--all-topic-partitions"])
        .run()?;
    ensure!(bench.partition(topic, 1)?.leader == 0, "{}", all.stdout);
    Ok(())
}

fn delete_records(bench: &Bench) -> Result<()> {
    const RECORDS: usize = 8_000;
    let topic = "deleted";
    bench.create(topic, "0:1:2", &[])?;
    bench.fill(topic, RECORDS)?;
    let delete = |offset: i64| {
        let offsets = format!(
            r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":0,"offset":{offset}}}]}}"#
        );
        let file = json_file(&offsets)?;
        let tool = bench.java.tool("DeleteRecordsCommand");
        let tool = tool.args(["--offset-json-file"]).args([file.path()]);
        Ok::<_, anyhow::Error>(tool.run()?.stdout)
    };
    let earliest = || {
        let shell = bench.java.tool("GetOffsetShell");
        let output = shell.args(["--topic", topic, "--time", "-2"]).run()?;
        Ok::<_, anyhow::Error>(output.stdout.trim().to_owned())
    };
    for broker in 0..3 {
        let bytes = segments_bytes(&bench.log_dir(broker, topic, 0))?;
        ensure!(bytes > 8_000_000, "broker {broker} has {bytes} bytes");
    }
    let deleted = delete(6_000)?;
    ensure!(deleted.contains("low_watermark: 6000"), "{deleted}");
    ensure!(earliest()? == "deleted:0:6000", "{}", earliest()?);
    for broker in 0..3 {
        let dir = bench.log_dir(broker, topic, 0);
        let what = format!("broker {broker} has freed its disk");
        wait_until(&what, TIME_LIMIT, || {
            segments_bytes(&dir).is_ok_and(|bytes| bytes < 4_000_000)
        })?;
    }
    let beyond = delete(8_001)?;
    ensure!(beyond.contains("OffsetOutOfRange"), "{beyond}");
    let all = delete(-1)?;
    ensure!(all.contains("low_watermark: 8000"), "{all}");
    let pid = bench.cluster.broker_pid(0)?;
    bench.cluster.kill(0)?;
    bench.cluster.wait_until_restarted(0, pid)?;
    ensure!(earliest()? == "deleted:0:8000", "{}", earliest()?);
    Ok(())
}

/// What the segments of a log take on the disk.
fn segments_bytes(dir: &PathBuf) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            bytes += path.metadata()?.len();
        }
    }
    Ok(bytes)
}
