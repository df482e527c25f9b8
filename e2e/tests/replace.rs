//! Replicas of a broker that stays away are re-created on another one, and are left alone when it
//! comes back first.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use klamm_e2e::admin::AdminService;
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Java, PartitionState, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, DevOptions};
use klamm_e2e::load::Load;
use klamm_e2e::process::{Signal, pause, send_signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;
use klamm_proto::v1::ApplyConfigRequest;

const BROKERS: u16 = 4;
/// The one that goes away. Nobody asks it for anything, so it may be paused.
const AWAY: u16 = 3;
const PARTITIONS: usize = 4;
const MESSAGES_PER_SECOND: &str = "1000";
const LAST_ACKNOWLEDGEMENTS_LIMIT: Duration = Duration::from_secs(60);
const DELAY: &str = "klamm.replica.replacement.delay.ms=2000";
/// Longer than the suite takes: a broker that was killed stays dead.
const RESTART_AFTER: &str = "60m";
const THROTTLE: &str = "follower.replication.throttled.rate";
const RECORDS: &str = "4000";
const RECORD_BYTES: &str = "1000";

fn main() -> ExitCode {
    let mut cases = Cases::new("replace");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start_with(DevOptions {
        nodes: BROKERS,
        overrides: vec![DELAY.to_owned()],
        arguments: vec!["--restart-after".to_owned(), RESTART_AFTER.to_owned()],
        ..DevOptions::default()
    })?;
    let others = (0..AWAY).map(|id| cluster.client_address(id).to_string());
    let others = others.collect::<Vec<_>>().join(",");
    let test = Test {
        java: Java::new(&others)?,
        go: franz_go(&others)?,
        admin: AdminService::of(&cluster, 0)?,
        cluster,
    };
    cases.run("a broker that comes back first keeps its replicas", || {
        test.comes_back()
    });
    cases.run(
        "a dead broker's replicas are re-created under load: nothing lost",
        || test.stays_dead(),
    );
    if cases.any_failed() {
        test.cluster.print_logs();
    }
    Ok(())
}

struct Test {
    cluster: DevCluster,
    java: Java,
    go: Program,
    admin: AdminService,
}

impl Test {
    /// The copy is throttled to a crawl, and the broker comes back while it goes on.
    fn comes_back(&self) -> Result<()> {
        let topic = "comes-back";
        self.create(topic, "3:0:1", &[])?;
        self.java
            .class("ProducerPerformance")
            .args(["--topic", topic, "--num-records", RECORDS])
            .args(["--record-size", RECORD_BYTES, "--throughput", "-1"])
            .args(["--producer-props", "acks=all"])
            .args([format!("bootstrap.servers={}", self.java.bootstrap())])
            .run()?;
        self.alter_brokers(&[(THROTTLE, "1000")], &[])?;
        let pid = self.cluster.broker_pid(AWAY)?;
        pause(pid)?;
        let copying = self.wait_for(topic, "the replica is re-created", |state| {
            state.replicas == [2, 0, 1, 3]
        });
        send_signal(pid, Signal::CONT)?;
        copying?;
        self.wait_for(topic, "the replica is where it was", |state| {
            state.replicas == [3, 0, 1] && state.isr.len() == 3
        })?;
        self.alter_brokers(&[], &[THROTTLE])
    }

    fn stays_dead(&self) -> Result<()> {
        let topic = "stays-dead";
        self.create(topic, "3:0:1,0:3:1,1:2:3,0:1:2", &["min.insync.replicas=2"])?;
        let partitions = PARTITIONS.to_string();
        let load = self
            .go
            .tool(&["load", topic, &partitions, MESSAGES_PER_SECOND]);
        let mut load = load.spawn()?;
        load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
            load.stdout_lines() > PARTITIONS
        })?;
        self.cluster.kill(AWAY)?;
        let expected = [[2, 0, 1], [0, 2, 1], [1, 2, 0], [0, 1, 2]];
        self.wait_for_all(topic, "no replica is on the dead broker", |states| {
            let mut pairs = states.iter().zip(&expected);
            pairs.all(|(state, replicas)| state.replicas == replicas && state.isr.len() == 3)
        })?;
        let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
        let load = Load::parse(&output.stdout)?;
        println!("    {} messages acknowledged", load.acknowledged());
        load.verify(&self.go.tool(&["read", topic]).run()?.stdout)
    }

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
        self.wait_for_all(topic, "all replicas are in sync", |states| {
            states.iter().all(|state| state.isr.len() == 3)
        })
    }

    fn alter_brokers(&self, set: &[(&str, &str)], reset: &[&str]) -> Result<()> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let request = ApplyConfigRequest {
            broker: None,
            set_config: set.iter().map(owned).collect(),
            reset_config: reset.iter().map(|key| (*key).to_owned()).collect(),
        };
        self.admin.repeat(request, async |mut client, request| {
            client.apply_config(request).await
        })?;
        Ok(())
    }

    fn describe(&self, topic: &str) -> Result<Vec<PartitionState>> {
        self.go.describe_topic(topic)
    }

    fn wait_for(
        &self,
        topic: &str,
        what: &str,
        done: impl Fn(&PartitionState) -> bool,
    ) -> Result<()> {
        self.wait_for_all(topic, what, |states| states.iter().all(&done))
    }

    fn wait_for_all(
        &self,
        topic: &str,
        what: &str,
        done: impl Fn(&[PartitionState]) -> bool,
    ) -> Result<()> {
        let mut last = Vec::new();
        let outcome = wait_until(what, TIME_LIMIT, || {
            last = self.describe(topic).unwrap_or_default();
            !last.is_empty() && done(&last)
        });
        outcome.with_context(|| format!("{topic}: {last:?}"))
    }
}
