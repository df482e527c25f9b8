//! Compares fail-over times: `failover [--rounds N] [--against kafka]`. The broker to measure is that
//! of `KLAMM_BROKER_BIN`; `cargo xtask failover` builds it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use klamm_e2e::client::Java;
use klamm_e2e::dev_cluster::{DevCluster, DevOptions, metric};
use klamm_e2e::failover::{BROKERS, Fault, System, measure, table};
use klamm_e2e::kafka_cluster::KafkaCluster;

const ROUNDS_DEFAULT: usize = 20;
/// Leaders go back to their preferred replicas soon, so that every round begins alike. No fail-over
/// depends on it.
const REBALANCE: &str = "leader.imbalance.check.interval.seconds=2";
/// Longer than the fault is waited for: a broker must not be back before the others lead.
const RESTART_AFTER: &str = "8s";

struct Klamm(DevCluster);

impl System for Klamm {
    fn name(&self) -> &'static str {
        "Klamm"
    }

    fn bootstrap(&self) -> String {
        self.0.bootstrap()
    }

    fn pid(&self, id: u16) -> Result<u32> {
        self.0.broker_pid(id)
    }

    fn controller(&self) -> Result<u16> {
        let known = (0..BROKERS).find_map(|id| {
            let id = metric(self.0.http_address(id), "klamm_cluster_controller_id").ok()?;
            (id >= 0.0).then_some(id)
        });
        Ok(known.context("no broker knows the controller")? as u16)
    }

    fn restore(&mut self, id: u16, killed_pid: u32) -> Result<()> {
        self.0.wait_until_restarted(id, killed_pid)
    }
}

struct Kafka(KafkaCluster);

impl System for Kafka {
    fn name(&self) -> &'static str {
        "Kafka"
    }

    fn bootstrap(&self) -> String {
        self.0.bootstrap()
    }

    fn pid(&self, id: u16) -> Result<u32> {
        self.0.pid(id)
    }

    fn controller(&self) -> Result<u16> {
        let quorum = Java::new(&self.bootstrap())?
            .tool("MetadataQuorumCommand")
            .args(["describe", "--status"])
            .run()?;
        let leader = quorum
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("LeaderId:"));
        Ok(leader.context("no LeaderId")?.trim().parse()?)
    }

    fn restore(&mut self, id: u16, _killed_pid: u32) -> Result<()> {
        self.0.restart(id)
    }
}

fn main() -> Result<()> {
    let (rounds, against_kafka) = arguments()?;
    let mut systems = Vec::new();
    let cluster = DevCluster::start_with(DevOptions {
        nodes: BROKERS,
        overrides: vec![REBALANCE.to_owned()],
        arguments: vec!["--restart-after".to_owned(), RESTART_AFTER.to_owned()],
        ..DevOptions::default()
    })?;
    systems.push(measure_all(Klamm(cluster), rounds)?);
    if against_kafka {
        let percentage = "leader.imbalance.per.broker.percentage=0";
        let cluster = KafkaCluster::start(&[REBALANCE, percentage])?;
        systems.push(measure_all(Kafka(cluster), rounds)?);
    }
    println!("{}", table(&Fault::ALL, &systems));
    Ok(())
}

type Measured = (&'static str, Vec<Vec<Duration>>);

fn measure_all(mut system: impl System, rounds: usize) -> Result<Measured> {
    let name = system.name();
    let mut all = Vec::new();
    for fault in Fault::ALL {
        let stalls =
            measure(&mut system, fault, rounds).with_context(|| format!("{name}, {fault:?}"))?;
        println!("{name}, {fault:?}: {stalls:.2?}");
        all.push(stalls);
    }
    Ok((name, all))
}

fn arguments() -> Result<(usize, bool)> {
    let (mut rounds, mut against_kafka) = (ROUNDS_DEFAULT, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next();
        match (argument.as_str(), value.as_deref()) {
            ("--rounds", Some(value)) => rounds = value.parse().context("--rounds")?,
            ("--against", Some("kafka")) => against_kafka = true,
            _ => bail!("usage: failover [--rounds N] [--against kafka]"),
        }
    }
    if rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    Ok((rounds, against_kafka))
}
