//! Members that join a group and leave it while messages flow.

use std::ops::Range;

use anyhow::{Context as _, Result};

use super::{TIME_LIMIT, produce};
use crate::cases::Cases;
use crate::client::KafkaClient;
use crate::messages::{parse, verify};
use crate::process::{Signal, wait_until};
use crate::tool::Running;

/// Sent before and after each change of the group.
const MESSAGES: u64 = 2_000;

pub(super) fn cases(cases: &mut Cases, client: &dyn KafkaClient) {
    let name = client.name();
    cases.run(
        &format!("{name}: a second member joins, the first leaves"),
        || join_and_leave(client),
    );
}

fn join_and_leave(client: &dyn KafkaClient) -> Result<()> {
    let topic = format!("{}-members", client.name());
    let group = format!("{topic}-group");
    client.ensure_topic(&topic)?;

    let mut members = vec![client.member(&topic, &group).spawn()?];
    client.wait_until_assigned(&mut members, &group)?;
    send(client, &topic, &members, 0..MESSAGES)?;

    members.push(client.member(&topic, &group).spawn()?);
    client.wait_until_assigned(&mut members, &group)?;
    send(client, &topic, &members, MESSAGES..2 * MESSAGES)?;

    let first = members.remove(0).stop(Signal::TERM, TIME_LIMIT)?;
    client.wait_until_assigned(&mut members, &group)?;
    let before = u64::try_from(first.stdout.lines().count())?;
    produce(client, &topic, 2 * MESSAGES..3 * MESSAGES, "none")?;
    wait_for(&members, 3 * MESSAGES - before)?;
    let second = members.remove(0).stop(Signal::TERM, TIME_LIMIT)?;

    let consumed = [parse(&first.stdout)?, parse(&second.stdout)?];
    verify(&consumed, 0..3 * MESSAGES)
}

/// Returns when the members have consumed everything up to the last of these messages.
fn send(
    client: &dyn KafkaClient,
    topic: &str,
    members: &[Running],
    numbers: Range<u64>,
) -> Result<()> {
    produce(client, topic, numbers.clone(), "none")?;
    wait_for(members, numbers.end)
}

fn wait_for(members: &[Running], count: u64) -> Result<()> {
    let lines = || members.iter().map(Running::stdout_lines).sum::<usize>() as u64;
    wait_until("all messages are consumed", TIME_LIMIT, || lines() >= count)
        .with_context(|| format!("{} of {count} messages", lines()))
}
