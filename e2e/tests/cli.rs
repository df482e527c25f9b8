//! The `klamm` command against three brokers.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Klamm};
use klamm_e2e::cluster::Cluster;
use klamm_e2e::messages::{parse, verify};
use klamm_e2e::process::{Signal, pause, send_signal, wait_until};
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("cli", run)
}

fn run(cases: &mut Cases, cluster: &mut Cluster) -> Result<()> {
    let klamm = Klamm::new(&cluster.bootstrap())?;
    suite::every_case(cases, &klamm, cluster)?;
    cases.run("klamm: partitions explicit, by key, and in turn", || {
        partitions(&klamm)
    });
    cases.run("klamm: without a group, the default one", || {
        default_group(&klamm)
    });
    cases.run("klamm: configurations are set and deleted", || {
        configs(&klamm)
    });
    cases.run("klamm: a refusal says what to do", || refusals(&klamm));
    cases.run(
        "klamm: the cluster is healthy until a broker pauses",
        || health(&klamm, cluster),
    );
    Ok(())
}

fn produce(klamm: &Klamm, args: &[&str], lines: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("lines");
    std::fs::write(&file, lines)?;
    klamm.tool(&["produce"]).args(args).stdin(&file).run()?;
    Ok(())
}

fn read(klamm: &Klamm, args: &[&str]) -> Result<String> {
    let read = klamm.tool(&["consume", "--idle", "5"]).args(args);
    Ok(read.run()?.stdout)
}

fn partitions(klamm: &Klamm) -> Result<()> {
    let topic = "cli-partitions";
    klamm.create_topic(topic, 6, 3)?;
    produce(klamm, &[topic, "-p", "4", "-k", ":"], "foobar:explicit\n")?;
    produce(klamm, &[topic, "-k", ":"], "foobar:by key\n21:another\n")?;
    let all: Vec<_> = (0..6).map(|partition| partition.to_string()).collect();
    let mut args = vec![topic, "-s", "earliest", "--offsets", "-k", "\t"];
    for partition in &all {
        args.extend(["-p", partition]);
    }
    let mut read = parse(&read(klamm, &args)?)?;
    read.sort_by(|a, b| a.value.cmp(&b.value));
    let places: Vec<_> = read
        .iter()
        .map(|m| (m.partition, m.value.as_str()))
        .collect();
    // What Java's client computes: murmur2 without its sign, modulo 6.
    let expected = [(0, "another"), (0, "by key"), (4, "explicit")];
    ensure!(places == expected, "{places:?}");
    // Larger than a batch each: the next one goes to the next partition.
    let line = "x".repeat(70_000) + "\n";
    produce(klamm, &[topic], &line.repeat(6))?;
    let described = klamm.json(&["topics", "describe", topic])?;
    let ends = described.as_array().into_iter().flatten();
    let written = ends.filter(|p| p["end_offset"].as_i64() > Some(0)).count();
    ensure!(written == 6, "{described}");
    let refused = klamm.tool(&["produce", topic, "-p", "6"]);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("line");
    std::fs::write(&file, "x\n")?;
    let error = refused.stdin(&file).run().expect_err("partition 6 of 6");
    ensure!(format!("{error:#}").contains("partition 6 of topic cli-partitions does not exist"));
    Ok(())
}

fn default_group(klamm: &Klamm) -> Result<()> {
    let topic = "cli-default";
    klamm.create_topic(topic, 2, 3)?;
    suite::produce(klamm, topic, 0..1_000, "none")?;
    let args = [topic, "-s", "earliest", "--offsets", "-k", "\t"];
    let first = read(klamm, &[&args[..], &["-n", "300"]].concat())?;
    let second = read(klamm, &args)?;
    verify(&[parse(&first)?, parse(&second)?], 0..1_000)?;
    let count = first.lines().count();
    ensure!(count == 300, "{count} records instead of 300");
    let groups = klamm.json(&["groups", "list"])?.to_string();
    ensure!(groups.contains("klamm-default"), "{groups}");
    let lag = klamm.json(&["groups", "describe", "klamm-default"])?["lag"].clone();
    ensure!(lag == 0, "lag {lag}");
    Ok(())
}

fn configs(klamm: &Klamm) -> Result<()> {
    let topic = "cli-configs";
    let create = ["topics", "create", topic, "-c", "retention.ms=3600000"];
    klamm.tool(&create).run()?;
    let of_topic = ["--topic", topic];
    let value = |key: &str| -> Result<Option<String>> {
        let described = klamm.json(&[&["configs", "describe"][..], &of_topic].concat())?;
        let mut configs = described.as_array().into_iter().flatten();
        let found = configs.find(|config| config["name"] == key);
        Ok(found.and_then(|config| Some(config["value"].as_str()?.to_owned())))
    };
    ensure!(value("retention.ms")?.as_deref() == Some("3600000"));
    let set = [
        "configs",
        "set",
        "cleanup.policy=compact",
        "segment.ms=60000",
    ];
    klamm.tool(&set).args(of_topic).run()?;
    ensure!(value("cleanup.policy")?.as_deref() == Some("compact"));
    let delete = ["configs", "delete", "cleanup.policy", "retention.ms"];
    klamm.tool(&delete).args(of_topic).run()?;
    ensure!(value("cleanup.policy")?.is_none() && value("retention.ms")?.is_none());
    ensure!(value("segment.ms")?.as_deref() == Some("60000"));
    let wrong = ["configs", "set", "no.such.key=1"];
    ensure!(klamm.tool(&wrong).args(of_topic).run().is_err());
    Ok(())
}

fn refusals(klamm: &Klamm) -> Result<()> {
    for (args, message) in [
        (
            &["topics", "describe", "nothing"][..],
            "topic nothing does not exist",
        ),
        (
            &["topics", "delete", "nothing"],
            "topic nothing does not exist",
        ),
        (&["topics", "create", "a b"], "InvalidTopicException"),
        (
            &["topics", "create", "far", "-r", "9"],
            "InvalidReplicationFactor",
        ),
        (&["consume", "nothing"], "topic nothing does not exist"),
        (
            &["groups", "describe", "nobody"],
            "group nobody does not exist",
        ),
    ] {
        refused(klamm, args, message)?;
    }
    refused(&Klamm::new("localhost")?, &["cluster"], "give HOST:PORT")?;
    let nobody = Klamm::new("localhost:1")?;
    refused(&nobody, &["cluster"], "no broker answers at localhost:1")
}

fn refused(klamm: &Klamm, args: &[&str], message: &str) -> Result<()> {
    let outcome = klamm.tool(args).run();
    let error = outcome.err().map(|error| format!("{error:#}"));
    let error = error.unwrap_or_default();
    ensure!(error.contains(message), "{args:?}: {error:?}");
    Ok(())
}

fn health(klamm: &Klamm, cluster: &Cluster) -> Result<()> {
    klamm.create_topic("cli-health", 6, 3)?;
    let healthy = || klamm.tool(&["cluster"]).run().is_ok();
    wait_until("it is healthy", suite::TIME_LIMIT, healthy)?;
    let pid = cluster.pid(2)?;
    pause(pid)?;
    let unhealthy = || klamm.tool(&["cluster"]).run().is_err();
    wait_until("a paused broker is noticed", suite::TIME_LIMIT, unhealthy)?;
    send_signal(pid, Signal::CONT)?;
    wait_until("it is healthy again", suite::TIME_LIMIT, healthy)
}
