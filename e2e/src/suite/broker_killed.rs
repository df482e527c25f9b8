//! A broker is killed while a producer sends.

use std::collections::HashSet;

use anyhow::Result;

use super::TIME_LIMIT;
use crate::cases::Cases;
use crate::client::MatrixClient;
use crate::cluster::Cluster;
use crate::feed::{Feed, Rate};
use crate::messages::{Delivery, line, parse, verify_delivery};
use crate::process::{Signal, wait_until};

/// Leads a third of the partitions.
const KILLED: u16 = 1;
const RATE: Rate = Rate {
    line,
    lines_per_tick: 40,
};
/// Sent before the kill, and after the broker is back.
const MESSAGES: u64 = 2_000;

pub(super) fn cases(cases: &mut Cases, client: &dyn MatrixClient, cluster: &mut Cluster) {
    let name = client.name();
    let promise = match client.delivery() {
        Delivery::ExactlyOnce => "lost or repeated",
        Delivery::AtLeastOnce => "lost",
    };
    let case = format!("{name}: a broker is killed under load, nothing is {promise}");
    match client.loses_messages() {
        Some(reason) => cases.skip(&case, reason),
        None => cases.run(&case, || kill(client, cluster)),
    }
}

fn kill(client: &dyn MatrixClient, cluster: &mut Cluster) -> Result<()> {
    let topic = format!("{}-killed", client.name());
    client.ensure_topic(&topic)?;
    let producer = client.producer(&topic, "none");
    let sent = Feed::during(producer, RATE, 0, |feed| {
        feed.wait_for_more(MESSAGES)?;
        cluster.kill_and_restart(KILLED)?;
        feed.wait_for_more(MESSAGES)
    })?;
    let mut member = client.member(&topic, &format!("{topic}-group")).spawn()?;
    let arrived = wait_until("all messages are consumed", TIME_LIMIT, || {
        distinct(&member.stdout()) >= sent
    });
    let consumed = member.stop(Signal::TERM, TIME_LIMIT)?.stdout;
    verify_delivery(&[parse(&consumed)?], 0..sent, client.delivery())?;
    arrived
}

/// How many different messages a member printed; what it prints just now is left out.
fn distinct(printed: &str) -> u64 {
    let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let values = whole.lines().filter_map(|line| line.rsplit('\t').next());
    values.collect::<HashSet<_>>().len() as u64
}
