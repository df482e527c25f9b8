//! Apache Kafka's Java client and tools against three brokers.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Java};
use klamm_e2e::cluster::Cluster;
use klamm_e2e::suite;

const PERF_MESSAGES: u64 = 100_000;

fn main() -> ExitCode {
    suite::run_target("java", run)
}

fn run(cases: &mut Cases, cluster: &mut Cluster) -> Result<()> {
    let java = Java::new(&cluster.bootstrap())?;
    suite::every_case(cases, &java, cluster)?;
    cases.run(
        "java: partitions are added, configuration is altered",
        || alter(&java),
    );
    cases.run(
        "java: a group's offsets are listed, reset and deleted",
        || group(&java),
    );
    cases.run("java: producer-perf-test and consumer-perf-test", || {
        java.perf_tests("java-perf", PERF_MESSAGES)
    });
    Ok(())
}

fn alter(java: &Java) -> Result<()> {
    let topic = "java-alter";
    java.create_topic(topic, 1, 3)?;
    java.tool("TopicCommand")
        .args(["--alter", "--topic", topic, "--partitions", "4"])
        .run()?;
    let partitions = java.describe_topic(topic)?.len();
    ensure!(partitions == 4, "{partitions} partitions instead of 4");
    let fewer = java
        .tool("TopicCommand")
        .args(["--alter", "--topic", topic, "--partitions", "2"])
        .run();
    ensure!(fewer.is_err(), "partitions were taken away");
    Ok(())
}

/// Stands on what the group consumed before.
fn group(java: &Java) -> Result<()> {
    let (topic, group) = ("java-messages", "java-group");
    let command = |args: &[&str]| {
        java.tool("consumer.group.ConsumerGroupCommand")
            .args(args)
            .run()
    };
    let listed = command(&["--list"])?.stdout;
    ensure!(
        listed.lines().any(|line| line == group),
        "not listed:\n{listed}"
    );
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG
    let rows = java.describe_group(group, &["--offsets"])?;
    ensure!(
        rows.len() == 6
            && rows
                .iter()
                .all(|row| row.get(5).is_some_and(|lag| lag == "0")),
        "{rows:?}"
    );
    command(&[
        "--reset-offsets",
        "--to-earliest",
        "--execute",
        "--group",
        group,
        "--topic",
        topic,
    ])?;
    let left = java.committed(topic, group)?;
    ensure!(left == 0, "{left} instead of 0 after the reset");
    command(&["--delete", "--group", group])?;
    let listed = command(&["--list"])?.stdout;
    ensure!(
        listed.lines().all(|line| line != group),
        "still listed:\n{listed}"
    );
    Ok(())
}
