//! The cases that every client passes.

mod acks;
mod broker_killed;
mod members;
mod offsets;

use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::cases::Cases;
use crate::client::{Admin, CODECS, KafkaClient, MatrixClient};
use crate::cluster::Cluster;
use crate::messages::{Consumed, parse, verify, write};
use crate::process::{Signal, wait_until};
use crate::tool::{Running, Tool, last_lines};

/// For what takes seconds on a machine that has time.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

const MESSAGES: u64 = 20_000;
/// What is sent after the group has gone away.
const MORE_MESSAGES: u64 = 2_000;
const CODEC_MESSAGES: u64 = 2_000;

/// The environment variable that, when it is set, has the cases run, too, that wait for time-outs of
/// clients or brokers; `cargo xtask clients` sets it.
pub const LONG_CASES: &str = "KLAMM_E2E_LONG";

/// Configuration that the cases rely on.
pub const OVERRIDES: [&str; 1] = ["num.partitions=6"];

/// A target whose clients talk to three brokers of the system that the environment names.
pub fn run_target(
    target: &str,
    run: impl FnOnce(&mut Cases, &mut Cluster) -> Result<()>,
) -> ExitCode {
    let mut cases = Cases::new(target);
    let outcome = Cluster::start(&OVERRIDES).and_then(|mut cluster| {
        let outcome = run(&mut cases, &mut cluster);
        if outcome.is_err() || cases.any_failed() {
            cluster.print_logs();
        }
        outcome
    });
    cases.finish(outcome)
}

/// Every case that takes no admin API.
///
/// # Errors
/// When the client does not tell its version.
pub fn every_message_case(
    cases: &mut Cases,
    client: &dyn MatrixClient,
    cluster: &mut Cluster,
) -> Result<()> {
    cases.client(client.name(), client.version()?);
    messages(cases, client);
    acks::cases(cases, client);
    offsets::cases(cases, client);
    if std::env::var_os(LONG_CASES).is_some() {
        members::cases(cases, client);
        broker_killed::cases(cases, client, cluster);
    }
    Ok(())
}

/// Every case.
///
/// # Errors
/// When the client does not tell its version.
pub fn every_case<C: MatrixClient + Admin>(
    cases: &mut Cases,
    client: &C,
    cluster: &mut Cluster,
) -> Result<()> {
    every_message_case(cases, client, cluster)?;
    admin(cases, client);
    Ok(())
}

/// Messages through a group, and in every codec.
pub fn messages(cases: &mut Cases, client: &dyn KafkaClient) {
    group_of_two(cases, client);
    let name = client.name();
    cases.run(&format!("{name}: every codec"), || codecs(client));
    for codec in CODECS {
        if !client.codecs().contains(&codec) {
            let reason = "takes a plugin of another project";
            cases.skip(&format!("{name}: codec {codec}"), reason);
        }
    }
}

/// Messages through a group: of two members, then of one that goes on where these were.
pub fn group_of_two(cases: &mut Cases, client: &dyn KafkaClient) {
    let name = client.name();
    let topic = format!("{name}-messages");
    let mut sent = false;
    cases.run(
        &format!("{name}: two members consume {MESSAGES} messages"),
        || {
            client.ensure_topic(&topic)?;
            two_members(client, &topic)?;
            sent = true;
            Ok(())
        },
    );
    cases.run(
        &format!("{name}: a later member goes on after the commit"),
        || {
            ensure!(sent, "the group did not consume before");
            resume(client, &topic)
        },
    );
}

fn two_members(client: &dyn KafkaClient, topic: &str) -> Result<()> {
    let group = group(client);
    let mut members = [
        client.member(topic, &group).spawn()?,
        client.member(topic, &group).spawn()?,
    ];
    client.wait_until_assigned(&mut members, &group)?;
    produce(client, topic, 0..MESSAGES, "none")?;
    let consumed = consume(&mut members, MESSAGES)?;
    ensure!(
        consumed.iter().all(|messages| !messages.is_empty()),
        "one of two members got nothing"
    );
    verify(&consumed, 0..MESSAGES)
}

fn resume(client: &dyn KafkaClient, topic: &str) -> Result<()> {
    let added = MESSAGES..MESSAGES + MORE_MESSAGES;
    produce(client, topic, added.clone(), "none")?;
    let mut members = [client.member(topic, &group(client)).spawn()?];
    verify(&consume(&mut members, MORE_MESSAGES)?, added)
}

fn codecs(client: &dyn KafkaClient) -> Result<()> {
    let topic = format!("{}-codecs", client.name());
    client.ensure_topic(&topic)?;
    let mut end = 0;
    for codec in client.codecs() {
        let numbers = end..end + CODEC_MESSAGES;
        produce(client, &topic, numbers.clone(), codec).with_context(|| codec.to_owned())?;
        end = numbers.end;
    }
    let mut members = [client.member(&topic, &format!("{topic}-group")).spawn()?];
    verify(&consume(&mut members, end)?, 0..end)
}

/// Topics and committed offsets through the client's admin API.
pub fn admin(cases: &mut Cases, client: &dyn Admin) {
    let name = client.name();
    cases.run(
        &format!("{name}: create, describe and delete a topic"),
        || topic_lifecycle(client),
    );
    cases.run(
        &format!("{name}: committed offsets count the messages"),
        || {
            let committed = client.committed(&format!("{name}-messages"), &group(client))?;
            let expected = i64::try_from(MESSAGES + MORE_MESSAGES)?;
            ensure!(committed == expected, "{committed} instead of {expected}");
            Ok(())
        },
    );
}

fn topic_lifecycle(client: &dyn Admin) -> Result<()> {
    let topic = format!("{}-lifecycle", client.name());
    client.create_topic(&topic, 5, 3)?;
    wait_until("the topic has leaders and replicas", TIME_LIMIT, || {
        client.describe_topic(&topic).is_ok_and(|partitions| {
            partitions.len() == 5
                && partitions.iter().all(|p| {
                    p.replicas.len() == 3 && p.isr.len() == 3 && p.replicas.contains(&p.leader)
                })
        })
    })
    .with_context(|| format!("described: {:?}", client.describe_topic(&topic)))?;
    ensure!(
        client.create_topic(&topic, 5, 3).is_err(),
        "a topic was created twice"
    );
    ensure!(client.list_topics()?.contains(&topic), "not listed");
    client.delete_topic(&topic)?;
    wait_until("the topic is not listed", TIME_LIMIT, || {
        client
            .list_topics()
            .is_ok_and(|topics| !topics.contains(&topic))
    })?;
    ensure!(
        client.describe_topic(&topic).is_err(),
        "a deleted topic was described"
    );
    // The name is free again.
    client.create_topic(&topic, 1, 3)?;
    client.delete_topic(&topic)
}

fn group(client: &dyn KafkaClient) -> String {
    format!("{}-group", client.name())
}

/// Produces messages and waits until all are acknowledged.
///
/// # Errors
/// When one of them is not.
pub fn produce(
    client: &dyn KafkaClient,
    topic: &str,
    numbers: Range<u64>,
    codec: &str,
) -> Result<()> {
    send(client.producer(topic, codec), numbers)
}

/// Gives messages to a producer and waits until it has ended.
fn send(producer: Tool, numbers: Range<u64>) -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("messages");
    write(&file, numbers)?;
    producer.stdin(&file).run()?;
    Ok(())
}

/// Waits until members have consumed so many messages together, and stops them.
///
/// # Errors
/// When they do not, or do not stop.
pub fn consume(members: &mut [Running], count: u64) -> Result<Vec<Vec<Consumed>>> {
    let count = usize::try_from(count)?;
    let arrived = wait_until("all messages are consumed", TIME_LIMIT, || {
        members.iter().map(Running::stdout_lines).sum::<usize>() >= count
    });
    let mut outputs = Vec::new();
    for member in members.iter_mut() {
        let output = member.stop(Signal::TERM, TIME_LIMIT)?;
        outputs.push(output);
    }
    arrived.with_context(|| {
        let reports = outputs.iter().map(|output| {
            let lines = output.stdout.lines().count();
            format!("{lines} messages: {}", last_lines(&output.stderr, 20))
        });
        format!("of {count} members got {:#?}", reports.collect::<Vec<_>>())
    })?;
    outputs.iter().map(|output| parse(&output.stdout)).collect()
}
