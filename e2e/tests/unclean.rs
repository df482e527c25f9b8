//! Every replica of a partition is away, and the one that comes back first lacks acknowledged messages:
//! whether it leads is up to the topic, the cluster and the operator, and what that costs is reported.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Java, Kcat, Klamm};
use klamm_e2e::dev_cluster::{DevCluster, metric};
use klamm_e2e::kubernetes::Metadata;
use klamm_e2e::process::{Signal, send_signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;

/// A majority of them never stops.
const BROKERS: u16 = 5;
/// The brokers with the replicas: the one that has everything, and the one that comes back first.
const COMPLETE: u16 = 3;
const FIRST_BACK: u16 = 4;
const OVERRIDES: [&str; 2] = [
    "auto.leader.rebalance.enable=false",
    "klamm.replica.replacement.delay.ms=0",
];

/// Waits for a replica that has everything, whatever the cluster's default is.
const WAITING: &str = "waiting";
/// Goes on with the first replica.
const UNCLEAN: &str = "unclean";
/// Has its leader elected by an operator.
const ELECTED: &str = "elected";
/// Goes by the default of the cluster.
const BY_DEFAULT: &str = "by-default";
const TOPICS: [&str; 4] = [WAITING, UNCLEAN, ELECTED, BY_DEFAULT];
const UNCLEAN_SETTING: &str = "unclean.leader.election.enable";

/// Messages that both replicas have, and those that one has alone.
const SHARED: u64 = 100;
const ALONE: u64 = 40;

fn main() -> ExitCode {
    let mut cases = Cases::new("unclean");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(BROKERS, &OVERRIDES)?;
    let majority: Vec<_> = (0..COMPLETE)
        .map(|id| cluster.client_address(id).to_string())
        .collect();
    let bench = Bench {
        kcat: Kcat::new(&majority.join(",")),
        java: Java::new(&majority.join(","))?,
        klamm: Klamm::new(&majority.join(","))?,
        cluster,
    };
    cases.run("no replica is left of any topic", || lose_both(&bench));
    cases.run("only the topic that allows it goes on with less", || {
        first_replica_back(&bench)
    });
    cases.run("Kafka's tool elects a leader uncleanly", || elect(&bench));
    cases.run("a changed default of the cluster counts at once", || {
        change_default(&bench)
    });
    cases.run(
        "the others wait for all messages, and what is given up is reported",
        || complete_replica_back(&bench),
    );
    for broker in [COMPLETE, FIRST_BACK] {
        bench.signal(broker, Signal::CONT)?;
    }
    if cases.any_failed() {
        bench.cluster.print_logs();
    }
    Ok(())
}

struct Bench {
    cluster: DevCluster,
    kcat: Kcat,
    java: Java,
    klamm: Klamm,
}

impl Bench {
    fn signal(&self, broker: u16, signal: Signal) -> Result<()> {
        send_signal(self.cluster.broker_pid(broker)?, signal)
    }

    fn create(&self, topic: &str, unclean: Option<bool>) -> Result<()> {
        let mut tool = self
            .java
            .tool("TopicCommand")
            .args(["--create", "--topic", topic, "--replica-assignment"])
            .args([format!("{COMPLETE}:{FIRST_BACK}")])
            .args(["--config", "min.insync.replicas=1"]);
        if let Some(unclean) = unclean {
            tool = tool.args([
                "--config".to_owned(),
                format!("{UNCLEAN_SETTING}={unclean}"),
            ]);
        }
        tool.run()?;
        Ok(())
    }

    fn produce(&self, topic: &str, messages: u64) -> Result<()> {
        self.java
            .class("ProducerPerformance")
            .args(["--topic", topic, "--num-records", &messages.to_string()])
            .args(["--record-size", "100", "--throughput", "-1"])
            .args(["--producer-props", "acks=all"])
            .args([format!("bootstrap.servers={}", self.java.bootstrap())])
            .run()?;
        Ok(())
    }

    fn leaders(&self) -> Result<BTreeMap<String, i32>> {
        let metadata = Metadata::read(&self.kcat)?;
        let leaders = metadata.leaders();
        let of = |topic: &&str| {
            let leader = leaders.get(&(*topic, 0)).copied();
            let leader = leader.with_context(|| format!("no topic {topic}"))?;
            Ok(((*topic).to_owned(), leader))
        };
        TOPICS.iter().map(of).collect()
    }

    fn wait_until_led(&self, by: impl Fn(&str) -> i32) -> Result<()> {
        let expected = TOPICS.map(|topic| (topic.to_owned(), by(topic))).into();
        let mut last = String::new();
        let led = wait_until("the topics have the leaders they shall", TIME_LIMIT, || {
            let leaders = self.leaders();
            last = format!("{leaders:?}, not {expected:?}");
            leaders.is_ok_and(|leaders| leaders == expected)
        });
        led.context(last)
    }

    fn end(&self, topic: &str) -> Result<u64> {
        let shell = self.java.tool("GetOffsetShell");
        let output = shell.args(["--topic", topic, "--time", "-1"]).run()?;
        let end = output.stdout.trim().rsplit(':').next();
        let end = end.and_then(|end| end.parse().ok());
        end.with_context(|| format!("no end offset in {:?}", output.stdout))
    }
}

fn lose_both(bench: &Bench) -> Result<()> {
    bench.create(WAITING, Some(false))?;
    bench.create(UNCLEAN, Some(true))?;
    bench.create(ELECTED, Some(false))?;
    bench.create(BY_DEFAULT, None)?;
    for topic in TOPICS {
        bench.produce(topic, SHARED)?;
    }
    wait_until("every replica is in sync", TIME_LIMIT, || {
        Metadata::read(&bench.kcat).is_ok_and(|metadata| metadata.is_in_sync())
    })?;
    bench.signal(FIRST_BACK, Signal::STOP)?;
    wait_until("the paused replicas have left the ISR", TIME_LIMIT, || {
        Metadata::read(&bench.kcat).is_ok_and(|metadata| {
            let mut partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.all(|partition| !partition.is_in_sync())
        })
    })?;
    for topic in TOPICS {
        bench.produce(topic, ALONE)?;
    }
    bench.signal(COMPLETE, Signal::STOP)?;
    bench.wait_until_led(|_| -1)
}

fn first_replica_back(bench: &Bench) -> Result<()> {
    bench.signal(FIRST_BACK, Signal::CONT)?;
    bench.wait_until_led(|topic| match topic {
        UNCLEAN => FIRST_BACK.into(),
        _ => -1,
    })?;
    ensure!(bench.end(UNCLEAN)? == SHARED);
    bench.produce(UNCLEAN, ALONE / 2)
}

fn elect(bench: &Bench) -> Result<()> {
    let elected = bench
        .java
        .tool("LeaderElectionCommand")
        .args(["--election-type", "unclean"])
        .args(["--topic", ELECTED, "--partition", "0"])
        .run()?
        .stdout;
    ensure!(
        elected.contains("Successfully completed leader election (UNCLEAN)"),
        "{elected}"
    );
    bench.wait_until_led(|topic| match topic {
        UNCLEAN | ELECTED => FIRST_BACK.into(),
        _ => -1,
    })
}

fn change_default(bench: &Bench) -> Result<()> {
    let allowed = format!("{UNCLEAN_SETTING}=true");
    let set = ["configs", "set", "--cluster", &allowed];
    bench.klamm.tool(&set).run()?;
    bench.wait_until_led(|topic| match topic {
        WAITING => -1,
        _ => FIRST_BACK.into(),
    })?;
    let delete = ["configs", "delete", "--cluster", UNCLEAN_SETTING];
    bench.klamm.tool(&delete).run()?;
    Ok(())
}

fn complete_replica_back(bench: &Bench) -> Result<()> {
    bench.signal(COMPLETE, Signal::CONT)?;
    bench.wait_until_led(|topic| match topic {
        WAITING => COMPLETE.into(),
        _ => FIRST_BACK.into(),
    })?;
    ensure!(bench.end(WAITING)? == SHARED + ALONE);
    let address = bench.cluster.http_address(COMPLETE);
    let given_up = ALONE * (TOPICS.len() as u64 - 1);
    let mut last = String::new();
    let counted = wait_until("what was given up is counted", TIME_LIMIT, || {
        let counted = metric(address, "klamm_records_given_up_total");
        last = format!("{counted:?}, not {given_up}");
        counted.is_ok_and(|counted| counted as u64 == given_up)
    });
    counted.context(last)?;
    let log = std::fs::read_to_string(bench.cluster.log_file(COMPLETE))?;
    let reported = "committed records are given up after an unclean leader election";
    let reports = log.lines().filter(|line| line.contains(reported));
    let reports: Vec<_> = reports.collect();
    ensure!(reports.len() == TOPICS.len() - 1, "{reports:#?}");
    let number = format!("records={ALONE}");
    ensure!(
        reports.iter().all(|line| line.contains(&number)),
        "{reports:#?}"
    );
    let elections: f64 = (0..BROKERS)
        .filter_map(|id| {
            let address = bench.cluster.http_address(id);
            metric(address, "klamm_cluster_unclean_leader_elections_total").ok()
        })
        .sum();
    ensure!(elections as usize == TOPICS.len() - 1, "{elections}");
    Ok(())
}
